"""The decoders of foreign bytes, each with valid inputs to begin with."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pskkey.adapters.discovery.advert_receiver import AdvertReceiver
from pskkey.adapters.discovery.source import Source
from pskkey.config.psk import Psk, PskFile
from pskkey.core.events import Event
from pskkey.mcast.record import read_header_untrusted
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
    Member,
    Merge,
    Message,
    Role,
    SavedKey,
    SavedLease,
    SavedManager,
    SavedRing,
    SavedState,
    Slot,
    Suite,
    Times,
)
from pskkey.secret import Secret
from pskkey.tools.ctl.status_reading import Status
from pskkey.wire.advert import SERVICE_TYPE, advert_key, decode_advert_untrusted, encode_advert, instance_name
from pskkey.wire.dns import InstanceText, read_message_untrusted, read_text_untrusted
from pskkey.wire.frame import encode_frame
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from pskkey.wire.saved import decode_saved_untrusted, encode_saved
from pskkey.wire.strict_json import decode_object_untrusted
from pskkey.wire.varlink import VarlinkReader, decode_call_untrusted
from tests.wire import dns_messages as dns


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder: `turns` decodes bytes and raises nothing but BadPacket. It accepts each of `samples`.

    Between two items of `turns` the event loop gets other work done.
    """

    name: str
    turns: Callable[[bytes], Iterable[object]]
    samples: tuple[bytes, ...]


_PSK: Final = bytes(range(32))
_KEY: Final = Key(Secret(bytes(64)), bytes(32), bytes(range(32)), Suite.PSK_CHACHA20_POLY1305)
_NODE: Final = "0123456789abcdef"
_MEMBER: Final = Member(_NODE, "node", ("192.0.2.1", "2001:db8::1"), 11111, sender_id=3, acked_epoch=2)
_STATE: Final = KeyState(3, frozenset({3, 255}), (KeyEntry(2, _KEY, send=True), KeyEntry(3, _KEY, send=False)))

_BY_READER: Final[dict[tuple[Channel, Side], tuple[Message, ...]]] = {
    (Channel.TLS, Side.SERVER): (
        KeyRequest(),
        KeyAck(2),
        KeyNew(KeyNewReason.OPERATOR),
        Join("g", _MEMBER, "i1", 7, (HeldKey(2, "ab" * 8, send=True),), sender=True, lease=3),
        Merge(_MEMBER, 7, 2, 3),
        Heartbeat(),
        ErrorMessage("denied", "no"),
    ),
    (Channel.TLS, Side.CLIENT): (
        KeyResponse(_KEY),
        _STATE,
        Group(7, _NODE, (_MEMBER,), (_NODE,)),
        GroupChange(
            7, 3, knows="ab" * 8, master=_NODE, members=(_MEMBER,), times=Times(0.5, 1.5), level=1, has_keys=True
        ),
        GroupChange(7, 4, 3, left=(_NODE,), senders=frozenset({3, 255})),
        Handover(_MEMBER, 8, (_MEMBER,)),
        Heartbeat(),
        ErrorMessage("full", "no place"),
    ),
    (Channel.KEYS, Side.SERVER): (KeyRequest(), KeyWatch(will_send=True, context=9, level=2), KeyAck(2), Heartbeat()),
    (Channel.KEYS, Side.CLIENT): (_STATE, KeyResponse(_KEY), Heartbeat(), ErrorMessage("denied", "no")),
}


def in_one_turn(name: str, decode: Callable[[bytes], object], samples: tuple[bytes, ...]) -> Target:
    """Return the target of a decoder that takes its whole input at once."""

    def turns(data: bytes) -> Iterator[object]:
        yield decode(data)

    return Target(name, turns, samples)


def _reader(channel: Channel, side: Side) -> Callable[[bytes], Iterable[object]]:
    def turns(data: bytes) -> Iterator[object]:
        reader = PacketReader(channel, side)
        reader.add(data)
        while reader.ready:
            yield reader.next_untrusted()

    return turns


def _advert_key() -> Secret:
    return advert_key(Secret(_PSK))


def _advert_pairs() -> dict[str, str]:
    advert = Advert("g", _NODE, "node", 100, True, Role.MASTER, 7, 2, ("192.0.2.1",), 11111, challenge="c" * 20)
    return encode_advert(advert, _advert_key())


def _decode_advert(text: bytes) -> object:
    return decode_advert_untrusted(read_text_untrusted(text), [_advert_key()])


def _receive_advert(text: bytes) -> object:
    psk = PskFile(Psk("group", Secret(_PSK)), {"group": Secret(_PSK)})
    events: list[Event] = []
    receiver = AdvertReceiver(
        group="g", psk=lambda: psk, is_ours=lambda _: False, emit=events.append, counters=Counter()
    )
    found = InstanceText(f"{instance_name(_NODE)}.{SERVICE_TYPE}", text)
    receiver.take_untrusted(found, Source("fe80::1", 1), 0.0)
    return events, receiver.heard(0.0)


def _decode_status(data: bytes) -> object:
    return Status.parse_untrusted(decode_object_untrusted(data))


_SAVED: Final = SavedState(
    "g",
    _NODE,
    "i1",
    7,
    SavedRing((SavedKey(2, _KEY, Slot.CURRENT, 1.5),), SavedLease(3, frozenset({3})), (), SavedLease()),
    ((_NODE, 3),),
    (("ab" * 8, 9),),
    (SavedManager(9, True, False),),
)
_CALL: Final = json.dumps({"method": "io.pskkey.Control.GetStatus", "parameters": {}, "more": True}).encode()


def targets() -> list[Target]:
    """Return all decoders."""
    pairs = _advert_pairs()
    service, instance = dns.name(SERVICE_TYPE), dns.name(f"{instance_name(_NODE)}.{SERVICE_TYPE}")
    query = dns.message([dns.question(service)], [dns.record(service, dns.PTR, instance)])
    response = dns.announcement(instance_name(_NODE), dns.text_data(pairs))
    return [
        *(
            Target(
                f"{channel.value} {side.value}",
                _reader(channel, side),
                (*(encode(m) for m in messages), encode_frame(0x90, b"later") + encode(Heartbeat())),
            )
            for (channel, side), messages in _BY_READER.items()
        ),
        in_one_turn("mDNS message", read_message_untrusted, (query, response)),
        in_one_turn("advert", _decode_advert, (dns.text_data(pairs),)),
        in_one_turn("advert of a node", _receive_advert, (dns.text_data(pairs),)),
        in_one_turn("persisted state", decode_saved_untrusted, (bytes(encode_saved(_SAVED)),)),
        in_one_turn("Varlink stream", lambda data: VarlinkReader().receive_untrusted(data), (_CALL + b"\0",)),
        in_one_turn("Varlink call", decode_call_untrusted, (_CALL,)),
        in_one_turn("status", _decode_status, (b'{"schema": 1}',)),
        in_one_turn("record header", read_header_untrusted, (bytes.fromhex("17fefd0002030000000001000400000000"),)),
    ]
