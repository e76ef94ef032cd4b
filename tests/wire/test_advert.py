"""The signed TXT record: its pairs, and that only a holder of the PSK can make or change one."""

import base64
import hmac
from collections.abc import Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from pskkey.errors import BadPacket
from pskkey.model import Advert, Levels, Role
from pskkey.secret import Secret
from pskkey.wire.advert import (
    SERVICE_TYPE,
    advert_key,
    decode_advert_untrusted,
    encode_advert,
    group_of_untrusted,
    instance_name,
)
from tests.wire.messages import adverts

PSK = Secret(bytes(range(32)))
KEY = advert_key(PSK)
OTHER_KEY = advert_key(Secret(b"another pre-shared key"))
ID = "0123456789abcdef0123456789abcdef"
ADVERT = Advert("default", ID, "pump-3", 100, True, Role.MASTER, 7, 3, ("10.0.0.1", "fe80::1"), 11111)

type Properties = dict[bytes, bytes | None]


def received(pairs: Mapping[str, str]) -> Properties:
    """Return the pairs as python-zeroconf passes them to a browser."""
    return {name.encode(): value.encode() for name, value in pairs.items()}


def signed(properties: Mapping[bytes, bytes | None], key: Secret = KEY) -> Properties:
    """Sign any pairs, by the description of the signature, without the code under test."""
    text = b""
    for name in sorted(set(properties) - {b"sig"}):
        value = properties[name] or b""
        text += len(name).to_bytes(2) + name + len(value).to_bytes(2) + value
    mac = hmac.digest(key.reveal(), text, "sha256")[:16]
    return {**properties, b"sig": base64.urlsafe_b64encode(mac).rstrip(b"=")}


def refuse(properties: Mapping[bytes, bytes | None], *keys: Secret) -> str:
    with pytest.raises(BadPacket) as caught:
        decode_advert_untrusted(properties, keys or (KEY,))
    return str(caught.value)


RECEIVED = received(encode_advert(ADVERT, KEY))


def test_golden_record() -> None:
    pairs = encode_advert(ADVERT, KEY)
    signature = pairs.pop("sig")
    assert pairs == {
        "txtvers": "1",
        "grp": "default",
        "id": ID,
        "name": "pump-3",
        "pri": "100",
        "el": "1",
        "role": "m",
        "term": "7",
        "n": "3",
        "addr": "10.0.0.1,fe80::1",
        "port": "11111",
        "pv": "1-1",
    }
    assert len(signature) == 22
    assert received({**pairs, "sig": signature}) == signed(received(pairs))
    assert decode_advert_untrusted(RECEIVED, [KEY]) == ADVERT


def test_names_of_service_instance_and_pairs() -> None:
    assert SERVICE_TYPE == "_pskkey._tcp.local."
    assert instance_name(ID) == f"pskkey-{ID}"
    assert all(len(name) <= 9 for name in encode_advert(ADVERT, KEY))


def test_instance_names_differ_for_ids_that_begin_alike_and_fit_a_label() -> None:
    longest = [instance_name(f"{'0' * 31}{digit}") for digit in "01"]
    assert longest[0] != longest[1]
    assert all(len(name) <= 63 for name in longest)  # RFC 1035 section 2.3.4


def test_the_key_is_hkdf_with_a_label_of_its_own() -> None:
    # RFC 5869: extract with a salt of zeros, expand with the label.
    extracted = hmac.digest(bytes(32), PSK.reveal(), "sha256")
    expected = HKDFExpand(SHA256(), 32, b"pskkey mdns advert 1").derive(extracted)
    assert advert_key(PSK).reveal() == expected
    assert advert_key(PSK) != PSK


@settings(max_examples=80, deadline=None)
@given(adverts)
def test_round_trip(advert: Advert) -> None:
    pairs = encode_advert(advert, KEY)
    assert all(len(f"{name}={value}".encode()) <= 255 for name, value in pairs.items())
    assert decode_advert_untrusted(received(pairs), [KEY]) == advert
    assert group_of_untrusted(received(pairs)) == advert.group


def test_any_flipped_bit_is_refused() -> None:
    flips = 0
    for name, value in RECEIVED.items():
        rest = {other: RECEIVED[other] for other in RECEIVED if other != name}
        assert value
        for part in range(2):
            octets = (name, value)[part]
            for bit in range(8 * len(octets)):
                changed = bytearray(octets)
                changed[bit // 8] ^= 1 << bit % 8
                pair = {bytes(changed): value} if part == 0 else {name: bytes(changed)}
                refuse({**rest, **pair})
                flips += 1
    assert flips > 1000


@pytest.mark.parametrize("name", sorted(RECEIVED))
def test_a_missing_emptied_or_shortened_pair_is_refused(name: bytes) -> None:
    value = RECEIVED[name]
    assert value
    refuse({other: RECEIVED[other] for other in RECEIVED if other != name})
    for shorter in (None, b"", value[:-1], value[1:], value + b"="):
        refuse({**RECEIVED, name: shorter})


def test_any_two_values_swapped_are_refused() -> None:
    names = sorted(RECEIVED)
    for first in names:
        for second in names:
            if RECEIVED[first] != RECEIVED[second]:
                refuse({**RECEIVED, first: RECEIVED[second], second: RECEIVED[first]})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({b"xa": b"bc"}, {b"xab": b"c"}),
        ({b"xa": b"b", b"xc": b"d"}, {b"xa": b"bxcd"}),
        ({b"xa": b"", b"xb": b"c"}, {b"xa": b"xbc"}),
        ({b"xa": b"1", b"xb": b"23"}, {b"xa": b"12", b"xb": b"3"}),
        ({b"xa": b"\x00\x02xb\x00\x01c"}, {b"xa": b"", b"xb": b"c"}),
        ({}, {b"xa": None}),
    ],
)
def test_pairs_that_look_alike_do_not_collide(before: Properties, after: Properties) -> None:
    signature = signed({**RECEIVED, **before})[b"sig"]
    decode_advert_untrusted({**RECEIVED, **before, b"sig": signature}, [KEY])
    assert "accepted PSK" in refuse({**RECEIVED, **after, b"sig": signature})


def test_unknown_pairs_are_signed_and_ignored() -> None:
    extra = signed({**RECEIVED, b"colour": b"blue", b"\xff": b"\xff", b"flag": None})
    assert decode_advert_untrusted(extra, [KEY]) == ADVERT
    refuse({**RECEIVED, b"colour": b"blue"})
    refuse({name: value for name, value in extra.items() if name != b"flag"})


def test_levels_that_are_left_out_are_level_1() -> None:
    spoken = received(encode_advert(replace(ADVERT, speaks=Levels(2, 13)), KEY))
    assert spoken[b"pv"] == b"2-13"
    assert decode_advert_untrusted(spoken, [KEY]).speaks == Levels(2, 13)
    silent = signed({name: value for name, value in spoken.items() if name != b"pv"})
    assert decode_advert_untrusted(silent, [KEY]).speaks == Levels(1, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("role", b"w"), ("txtvers", b"2"), ("el", b"2"), ("pri", b"300"), ("n", None), ("name", b"\xff")],
)
def test_node_without_a_common_level_is_known_although_its_pairs_differ(name: str, value: bytes | None) -> None:
    pairs = {**RECEIVED, b"pv": b"9-12", name.encode(): value}
    stranger = decode_advert_untrusted(signed(pairs), [KEY])
    assert (stranger.id, stranger.group, stranger.speaks) == (ID, "default", Levels(9, 12))
    assert stranger.name == (ID if name == "name" else "pump-3")
    for levels in (b"1-12", b"9-12-3", b"12-9"):
        refuse(signed({**pairs, b"pv": levels}))
    refuse({**pairs, b"sig": RECEIVED[b"sig"]})
    refuse(signed({**pairs, b"id": b"x"}))


def test_a_pair_without_value_counts_as_empty() -> None:
    # Older releases of python-zeroconf give None for `addr=`.
    pairs = received(encode_advert(replace(ADVERT, addresses=()), KEY))
    assert pairs[b"addr"] == b""
    for value in (b"", None):
        assert decode_advert_untrusted({**pairs, b"addr": value}, [KEY]).addresses == ()


def test_advert_is_read_with_an_accepted_key_and_no_other() -> None:
    assert decode_advert_untrusted(RECEIVED, [OTHER_KEY, KEY]) == ADVERT
    assert decode_advert_untrusted(RECEIVED, [KEY, OTHER_KEY]) == ADVERT
    assert "accepted PSK" in refuse(RECEIVED, OTHER_KEY)
    with pytest.raises(BadPacket):
        decode_advert_untrusted(RECEIVED, [])
    assert "not signed" in refuse({name: value for name, value in RECEIVED.items() if name != b"sig"})
    # The PSK itself is not the signing key.
    refuse(signed(RECEIVED, PSK))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("txtvers", ["0", "2", "01", "", "one"]),
        ("grp", ["", "a\nb", "\x1b[0m", "x" * 251, b"\xff"]),
        ("id", ["", "0123456", "0" * 33, "ABCDEF01", "0123456g", "01234567\n", "\u0660" * 8]),
        ("name", ["", "a\nb", "\x7f", b"\xff", b"\xed\xa0\x80"]),
        ("pri", ["", "-1", "256", "007", "+1", " 1", "1.0", "1_0", "\u0661", "9" * 200, "1\n"]),
        ("el", ["", "2", "yes", "true", "01"]),
        ("full", ["", "0", "2", "yes"]),
        ("pv", ["", "1", "-", "1-", "-1", "0-1", "2-1", "1-256", "01-1", "1-2-3", "1 - 2", "1-\u0662"]),
        ("role", ["", "x", "M", "master", "mm"]),
        ("term", ["", "-1", str(2**53), "9" * 240, "1e3", "0x1"]),
        ("n", ["", "-1", "4097", "00"]),
        (
            "addr",
            [
                ",",
                "10.0.0.1,",
                ",10.0.0.1",
                "10.0.0.1,,10.0.0.2",
                "10.0.0.1 10.0.0.2",
                "0.0.0.0",
                "::",
                "224.0.0.251",
                "ff02::fb",
                "host.local",
                "010.0.0.1",
                "10.0.0.1\0",
                ",".join(["10.0.0.1"] * 9),
            ],
        ),
        ("port", ["", "0", "-1", "65536", "011111", "http"]),
    ],
)
def test_signed_value_out_of_bounds_is_refused(name: str, values: list[str | bytes]) -> None:
    for value in values:
        octets = value.encode() if isinstance(value, str) else value
        sentence = refuse(signed({**RECEIVED, name.encode(): octets}))
        assert "accepted PSK" not in sentence
        assert sentence.isprintable()
        assert len(sentence) < 200


def test_sizes_are_bounded_before_anything_is_computed() -> None:
    many: Properties = {b"x%d" % n: b"" for n in range(30)}
    assert "more than 32" in refuse(signed({**RECEIVED, **many}))
    assert "longer than 255" in refuse(signed({**RECEIVED, b"x": b"y" * 254}))
    decode_advert_untrusted(signed({**RECEIVED, b"x": b"y" * 253}), [KEY])


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*RECEIVED, b"", b"other"]),
        st.none() | st.binary(max_size=20) | st.sampled_from([*RECEIVED.values()]),
    )
)
def test_arbitrary_pairs_raise_only_bad_packet(properties: Properties) -> None:
    for candidate in (properties, signed(properties), signed({**RECEIVED, **properties})):
        group_of_untrusted(candidate)
        try:
            decode_advert_untrusted(candidate, [KEY])
        except BadPacket:
            continue


def test_group_of_an_unverified_record() -> None:
    assert group_of_untrusted(RECEIVED) == "default"
    assert group_of_untrusted({b"grp": "gr\u00fcn".encode()}) == "gr\u00fcn"
    for bad in ({}, {b"grp": None}, {b"grp": b""}, {b"grp": b"\xff"}, {b"grp": b"a\nb"}, {b"grp": b"x" * 251}):
        assert group_of_untrusted(bad) is None


@pytest.mark.parametrize(
    ("name", "advertised"),
    [
        ("x" * 250, "x" * 250),
        ("x" * 251, "x" * 250),
        ("\u20ac" * 100, "\u20ac" * 83),  # 3 bytes each: 249 of 250
        ("x" * 249 + "\u00fc", "x" * 249),
        ("\U0001f511" * 63, "\U0001f511" * 62),  # 4 bytes each: 248 of 250
    ],
)
def test_a_long_name_is_cut_between_characters(name: str, advertised: str) -> None:
    decoded = decode_advert_untrusted(received(encode_advert(replace(ADVERT, name=name), KEY)), [KEY])
    assert decoded.name == advertised


def test_addresses_that_do_not_fit_are_left_out() -> None:
    long = tuple(f"2001:db8:1111:2222:3333:4444:5555:666{n}" for n in range(8))  # 38 characters each
    pairs = encode_advert(replace(ADVERT, addresses=long), KEY)
    assert decode_advert_untrusted(received(pairs), [KEY]).addresses == long[:6]
    many = tuple(f"10.0.0.{n}" for n in range(1, 20))
    assert (
        decode_advert_untrusted(received(encode_advert(replace(ADVERT, addresses=many), KEY)), [KEY]).addresses
        == many[:8]
    )


def test_an_address_loses_its_zone() -> None:
    assert encode_advert(replace(ADVERT, addresses=("fe80::1%eth0",)), KEY)["addr"] == "fe80::1"


@pytest.mark.parametrize(
    "bad",
    [
        replace(ADVERT, group=""),
        replace(ADVERT, group="x" * 251),
        replace(ADVERT, id="me"),
        replace(ADVERT, name=""),
        replace(ADVERT, name="a\nb"),
        replace(ADVERT, priority=256),
        replace(ADVERT, term=-1),
        replace(ADVERT, members=4097),
        replace(ADVERT, addresses=("localhost",)),
        replace(ADVERT, port=0),
    ],
    ids=lambda advert: repr(advert)[:80],
)
def test_value_out_of_bounds_has_no_encoding(bad: Advert) -> None:
    with pytest.raises(ValueError, match=r".+"):
        encode_advert(bad, KEY)
