"""Strategies for every value that is sent over a wire, within its bounds."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.model import (
    Advert,
    ErrorMessage,
    Group,
    GroupChange,
    Handover,
    Heartbeat,
    HeldKey,
    Join,
    Key,
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Levels,
    Member,
    Merge,
    Role,
    Suite,
    Times,
)
from pskkey.secret import Secret


def numbered_key(first: int, suite: Suite = Suite.PSK_CHACHA20_POLY1305) -> Key:
    """Return a key whose 128 bytes count up from `first`, so that a test sees a misplaced byte."""
    octets = bytes((first + i) % 256 for i in range(128))
    return Key(Secret(octets[:64]), octets[64:96], octets[96:], suite)


def accepts_or_bad_packet(decode: Callable[[bytes], object], data: bytes) -> bool:
    """Return whether `data` was accepted. Any exception but BadPacket fails the test."""
    try:
        decode(data)
    except BadPacket:
        return False
    return True


def refused(decode: Callable[[bytes], object], data: bytes) -> str:
    """Return the sentence with which `data` is refused."""
    with pytest.raises(BadPacket) as caught:
        decode(data)
    return str(caught.value)


epochs = st.integers(1, 65535)
terms = st.integers(0, 2**53 - 1)
ports = st.integers(1, 65535)
sender_ids = st.integers(0, 255)
node_ids = st.text("0123456789abcdef", min_size=8, max_size=32)
texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30) | st.text(
    ' "\\/\u00e9\u20ac\U0001f511', min_size=1
)
addresses = st.sampled_from(
    ["127.0.0.1", "10.0.0.1", "192.168.255.254", "::1", "fe80::1", "2001:db8:1:2:3:4:5:6", "::ffff:10.0.0.1"]
) | st.integers(1, 0xDFFFFFFF).map(lambda n: ".".join(str(n >> shift & 255) for shift in (24, 16, 8, 0)))
address_lists = st.lists(addresses, max_size=8).map(tuple)

keys = st.builds(
    Key,
    pms=st.binary(min_size=64, max_size=64).map(Secret),
    server_random=st.binary(min_size=32, max_size=32),
    client_random=st.binary(min_size=32, max_size=32),
    suite=st.sampled_from(Suite),
)


@st.composite
def key_states(draw: st.DrawFn) -> KeyState:
    listed = draw(st.lists(epochs, max_size=3, unique=True))
    send = draw(st.none() | st.sampled_from(listed)) if listed else None
    return KeyState(
        sender_id=draw(st.none() | sender_ids),
        senders=draw(st.frozensets(sender_ids)),
        entries=tuple(
            KeyEntry(epoch, draw(keys), epoch == send, draw(st.booleans()), draw(st.booleans())) for epoch in listed
        ),
    )


key_responses = st.builds(KeyResponse, keys, epochs) | st.builds(
    KeyResponse, keys.filter(lambda key: key.suite is Suite.PSK_CHACHA20_POLY1305)
)
levels = st.lists(st.integers(1, 255), min_size=2, max_size=2).map(sorted).map(Levels._make)
members = st.builds(
    Member,
    id=node_ids,
    name=texts,
    addresses=address_lists,
    port=ports,
    priority=st.integers(0, 255),
    eligible=st.booleans(),
    sender_id=st.none() | sender_ids,
    acked_epoch=st.none() | epochs,
    version=st.just("") | texts,
    speaks=levels,
)
member_lists = st.lists(members, max_size=6, unique_by=lambda member: member.id).map(tuple)
fingerprints = st.text("0123456789abcdef", min_size=16, max_size=16)
held_keys = st.builds(HeldKey, epoch=epochs, fingerprint=fingerprints, send=st.booleans())
joins = st.builds(
    Join,
    group=texts,
    member=members,
    incarnation=texts,
    term=terms,
    held=st.lists(held_keys, max_size=3).map(tuple),
    sender=st.booleans(),
    lease=st.none() | sender_ids,
    knows=st.none() | st.just("") | fingerprints,
)
times = st.builds(Times, st.floats(0.05, 60), st.floats(0.1, 300))
groups = st.builds(
    Group,
    term=terms,
    master=node_ids,
    members=member_lists,
    succession=st.lists(node_ids, max_size=6, unique=True).map(tuple),
    times=times,
    level=st.integers(1, 255),
    key_age=st.integers(0, 2**31 - 1),
    known_outside=st.just("") | fingerprints,
)
group_changes = st.builds(
    GroupChange,
    term=terms,
    number=st.integers(0, 2**53 - 1),
    base=st.integers(0, 2**53 - 1),
    knows=st.just("") | fingerprints,
    master=st.none() | node_ids,
    members=member_lists,
    left=st.lists(node_ids, max_size=6, unique=True).map(tuple),
    times=st.none() | times,
    level=st.none() | st.integers(1, 255),
    senders=st.none() | st.frozensets(sender_ids),
    key_age=st.integers(0, 2**31 - 1),
    known_outside=st.just("") | fingerprints,
    has_keys=st.booleans(),
)
merges = st.builds(
    Merge,
    master=members,
    term=terms,
    members=st.integers(0, 4096),
    epoch=st.integers(0, 65535),
    winner=st.none() | node_ids,
)
handovers = st.builds(Handover, master=members, term=terms, members=member_lists)
error_messages = st.builds(
    ErrorMessage, code=st.from_regex(r"\A[a-z][a-z0-9_-]{0,63}\Z"), message=texts | st.just("") | st.just("x" * 1024)
)
key_watches = st.builds(KeyWatch, st.booleans(), st.integers(0, 2**64 - 1), st.integers(1, 255))
key_acks = st.builds(KeyAck, epochs)
key_news = st.builds(KeyNew, st.sampled_from(KeyNewReason))
both_ways = st.just(Heartbeat()) | error_messages
from_any_client = both_ways | st.just(KeyRequest()) | key_acks | key_news
from_any_server = both_ways | key_responses | key_states()

adverts = st.builds(
    Advert,
    group=texts,
    id=node_ids,
    name=texts,
    priority=st.integers(0, 255),
    eligible=st.booleans(),
    role=st.sampled_from(Role),
    term=terms,
    members=st.integers(0, 4096),
    addresses=st.lists(addresses, max_size=5).map(tuple),
    port=ports,
    speaks=levels,
    is_full=st.booleans(),
)


def member(number: int, name: str | None = None) -> Member:
    """Return a member like those of a real group."""
    return Member(
        id=f"{number:032x}",
        name=name or f"node-{number}",
        addresses=("10.0.0.1", "fe80::1"),
        port=11111,
        sender_id=number % 256,
        acked_epoch=7,
    )
