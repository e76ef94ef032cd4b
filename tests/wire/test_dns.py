"""mDNS messages are read within bounds, and python-zeroconf can read every query that passes.

`messages` makes messages with wrong values in the right places; hypothesis draws the random ones.
"""

from unittest import TestCase

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from zeroconf._protocol.incoming import DNSIncoming

from pskkey.errors import BadPacket
from pskkey.wire.advert import SERVICE_TYPE
from pskkey.wire.dns import (
    MAX_LABELS,
    MAX_MESSAGE,
    MAX_NAME,
    MAX_PAIRS,
    MAX_POINTERS,
    MAX_QUESTIONS,
    MAX_RECORDS,
    MAX_STEPS,
    InstanceText,
    Query,
    Response,
    concerns_us,
    read_message_untrusted,
    read_text_untrusted,
)
from tests.wire import dns_messages as dns

SERVICE = dns.name(SERVICE_TYPE)
INSTANCE = "pskkey-01234567"
WHOLE = f"{INSTANCE}.{SERVICE_TYPE}"
TEXT = dns.text_data({"grp": "default", "id": "0123456789abcdef"})
ASK = dns.question(SERVICE)
TO_SERVICE = dns.pointer(dns.HEADER_SIZE)

GOLDEN_QUERY = bytes.fromhex("0000 0000 0001 0000 0000 0000 07 5f70736b6b6579 04 5f746370 05 6c6f63616c 00 000c 0001")
GOLDEN_RESPONSE = bytes.fromhex(
    "0000 8400 0000 0002 0000 0000"
    "07 5f70736b6b6579 04 5f746370 05 6c6f63616c 00 000c 0001 00000078 0012"  # _pskkey._tcp.local. PTR
    "0f 70736b6b65792d3031323334353637 c00c"  # pskkey-01234567, and a pointer to the service type
    "c02a 0010 8001 00000078 0004 03 613d62"  # TXT a=b
)


def refuse(datagram: bytes) -> str:
    with pytest.raises(BadPacket) as caught:
        read_message_untrusted(datagram)
    return str(caught.value)


def texts(datagram: bytes) -> tuple[InstanceText, ...]:
    reading = read_message_untrusted(datagram)
    assert isinstance(reading, Response)
    return reading.texts


def names(datagram: bytes) -> frozenset[bytes]:
    reading = read_message_untrusted(datagram)
    assert isinstance(reading, Query)
    return reading.names


# --- accepted messages ---------------------------------------------------------------------------------------------


def test_golden_query() -> None:
    assert names(GOLDEN_QUERY) == {b"_pskkey._tcp.local."}


def test_golden_response() -> None:
    assert texts(GOLDEN_RESPONSE) == (InstanceText(WHOLE, b"\x03a=b"),)


def test_text_of_an_announcement() -> None:
    assert texts(dns.announcement(INSTANCE, TEXT)) == (InstanceText(WHOLE, TEXT),)


def test_names_are_read_without_regard_to_the_case_of_letters() -> None:
    assert texts(dns.announcement(INSTANCE.upper(), TEXT)) == (InstanceText(WHOLE, TEXT),)
    assert names(dns.message([dns.question(SERVICE.upper())])) == {b"_pskkey._tcp.local."}


@pytest.mark.parametrize("digits", [8, 9, 16, 32])
def test_instance_of_an_id_of_any_length_is_read(digits: int) -> None:
    instance = f"pskkey-{'5' * digits}"
    assert texts(dns.announcement(instance, TEXT)) == (InstanceText(f"{instance}.{SERVICE_TYPE}", TEXT),)


def test_goodbye_has_no_text() -> None:
    assert texts(dns.announcement(INSTANCE, TEXT, ttl=0)) == ()


@pytest.mark.parametrize(
    "stranger", ["pskkey-0123456", f"pskkey-{'0' * 33}", "pskkey-0123456g", "printer", "a.pskkey-01234567"]
)
def test_only_instances_with_a_name_like_ours_are_read(stranger: str) -> None:
    assert texts(dns.announcement(stranger, TEXT)) == ()


def test_instance_of_another_service_is_not_read() -> None:
    owner = dns.name(f"{INSTANCE}._ipp._tcp.local.")
    assert texts(dns.message(records=[dns.record(owner, dns.TXT, TEXT)], flags=dns.RESPONSE)) == ()


def test_query_yields_no_text() -> None:
    """A query may list known answers, but no signature covers them."""
    known = dns.record(dns.name(WHOLE), dns.TXT, TEXT)
    assert names(dns.message([ASK], [known])) == {b"_pskkey._tcp.local."}


def test_probe_and_known_answers_are_taken() -> None:
    whole = dns.name(WHOLE)
    known = [
        dns.record(SERVICE, dns.PTR, whole),
        dns.record(TO_SERVICE, dns.PTR, b"\x03abc" + TO_SERVICE),
        dns.record(whole, dns.SRV, bytes(6) + dns.name("host.local.")),
        dns.record(whole, dns.A, bytes(4)),
        dns.record(whole, dns.AAAA, bytes(16)),
        dns.record(b"\0", 41, b"\x00\x04\x00\x0e" + bytes(14)),  # EDNS0 with the sender's address, as macOS sends it
    ]
    assert names(dns.message([ASK], known)) == {b"_pskkey._tcp.local."}


@pytest.mark.parametrize("word", [b"\x07_pskkey", b"\x07_PsKkEy", b"pskkey-01234567", b"\x07_dns-sd", b"\x07_DNS-SD"])
def test_message_with_our_service_in_it_concerns_us(word: bytes) -> None:
    assert concerns_us(bytes(12) + word + b"\0")


def test_question_about_another_service_does_not_concern_us() -> None:
    assert not concerns_us(dns.message([dns.question(dns.name("_ipp._tcp.local."))]))


# --- refused messages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [dns.TRUNCATED, dns.NOTIFY, dns.RESPONSE | dns.TRUNCATED])
def test_truncated_messages_and_other_opcodes_are_refused(flags: int) -> None:
    assert "opcode" in refuse(dns.message([ASK], flags=flags))


@pytest.mark.parametrize("golden", [GOLDEN_QUERY, GOLDEN_RESPONSE])
def test_message_that_is_cut_off_anywhere_is_refused(golden: bytes) -> None:
    for size in range(len(golden)):
        refuse(golden[:size])


def test_size_is_bounded() -> None:
    query = dns.message([ASK])
    assert names(query.ljust(MAX_MESSAGE, b"\0"))
    assert str(MAX_MESSAGE + 1) in refuse(query.ljust(MAX_MESSAGE + 1, b"\0"))


def test_questions_are_bounded() -> None:
    more = dns.question(TO_SERVICE)
    assert names(dns.message([ASK, *[more] * (MAX_QUESTIONS - 1)]))
    assert "questions" in refuse(dns.message([ASK, *[more] * MAX_QUESTIONS]))


@pytest.mark.parametrize("flags", [dns.QUERY, dns.RESPONSE])
def test_records_of_all_sections_together_are_bounded(flags: int) -> None:
    known = dns.record(b"\0", dns.TXT, b"")
    datagram = bytearray(dns.message(records=[known] * MAX_RECORDS, flags=flags))
    datagram[6:12] = bytes([0, MAX_RECORDS - 2, 0, 1, 0, 1])
    assert read_message_untrusted(bytes(datagram))
    datagram[11] = 2
    assert "records" in refuse(bytes(datagram) + known)


def test_a_count_without_content_is_refused() -> None:
    """The message that could cost most is the cheapest to send: 12 bytes announce 65,535 records in each section."""
    refuse(bytes.fromhex("0000 8400 0000 ffff ffff ffff"))
    refuse(bytes.fromhex("0000 0000 ffff 0000 0000 0000"))


def test_pointers_lead_backwards_only() -> None:
    at = dns.HEADER_SIZE
    for target in (at, at + 2, at + 6, 0x3FFF):
        assert "forwards" in refuse(dns.message([dns.question(dns.pointer(target))], tail=b"\0" * 8))


def test_pointers_in_a_circle_are_refused() -> None:
    circle = b"\x01a" + dns.pointer(dns.HEADER_SIZE)
    assert "too many" in refuse(dns.message([dns.question(circle)]))


def test_pointers_in_one_name_are_bounded() -> None:
    def asked(pointers: int) -> bytes:
        first = dns.record(b"\0", dns.TXT, dns.pointer_chain(dns.HEADER_SIZE + 11, MAX_POINTERS + 2))
        owner = dns.pointer(dns.HEADER_SIZE + 11 + 1 + 2 * (pointers - 2))
        return dns.message(records=[first, dns.record(owner, dns.TXT, b"")], flags=dns.RESPONSE)

    assert texts(asked(MAX_POINTERS)) == ()
    assert "too many" in refuse(asked(MAX_POINTERS + 1))


def test_labels_of_one_name_are_bounded() -> None:
    assert names(dns.message([dns.question(dns.name("a." * MAX_LABELS))]))
    assert "too long" in refuse(dns.message([dns.question(dns.name("a." * (MAX_LABELS + 1)))]))


def test_length_of_a_name_is_bounded() -> None:
    longest = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 60)) + "."
    assert len(longest) == MAX_NAME
    assert names(dns.message([dns.question(dns.name(longest))])) == {longest.encode()}
    assert "too long" in refuse(dns.message([dns.question(dns.name(longest.replace("d.", "dd.")))]))
    assert "too long" in refuse(dns.query_with_long_name())


@pytest.mark.parametrize("length", [0x40, 0x7F, 0x80, 0xBF])
def test_labels_of_other_kinds_are_refused(length: int) -> None:
    assert "no known kind" in refuse(dns.message([dns.question(bytes([length]) + bytes(length))]))


def test_work_for_a_whole_message_is_bounded() -> None:
    """Each name is within its bounds, but all names together are not."""
    long = dns.name("a." * MAX_LABELS)
    most = (MAX_STEPS - MAX_LABELS) // (MAX_LABELS + 1)
    again = dns.question(TO_SERVICE)
    assert names(dns.message([dns.question(long), *[again] * most]))
    assert str(MAX_STEPS) in refuse(dns.message([dns.question(long), *[again] * (most + 1)]))


def test_a_packet_full_of_questions_about_instances_is_taken() -> None:
    """`avahi-browse -r` sends it in a large group: about as many questions as an Ethernet frame holds."""
    asked = [dns.question(b"\x0fpskkey-%08x" % n + TO_SERVICE, dns.SRV) for n in range(62)]
    datagram = dns.message([ASK, *asked])
    assert 1400 <= len(datagram) < 1472
    assert len(names(datagram)) == 63


# --- messages that python-zeroconf would read differently ----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (dns.A, bytes(3)),
        (dns.A, bytes(5)),
        (dns.AAAA, bytes(4)),
        (dns.PTR, b"\0\0"),
        (dns.PTR, b""),
        (dns.CNAME, b"\x03ab"),
        (dns.SRV, bytes(6)),
        (dns.SRV, bytes(8)),
        (dns.HINFO, b"\0\0"),
        (dns.NSEC, b"\0"),
    ],
)
def test_data_of_a_query_must_fit_its_type(kind: int, data: bytes) -> None:
    assert f"type {kind}" in refuse(
        dns.message([ASK], [dns.record(SERVICE, kind, data), *[dns.record(b"\0", 99, b"")] * 2])
    )


def test_chain_of_pointers_in_the_data_of_a_query_is_refused() -> None:
    """Each such query costs 69 ms of python-zeroconf's time."""
    assert "too many" in refuse(dns.query_with_chain(900))


def test_query_on_which_python_zeroconf_would_fail_is_refused() -> None:
    """python-zeroconf keeps a traceback, with the message in it, of each such query."""
    assert "type 1" in refuse(dns.query_that_lies())


KINDS = st.sampled_from([dns.A, dns.CNAME, dns.PTR, dns.HINFO, dns.TXT, dns.AAAA, dns.SRV, dns.NSEC, 41, 99])


@st.composite
def owners(draw: st.DrawFn) -> bytes:
    """A name, a pointer to somewhere, or labels that end with one; not always in bounds."""
    labels = draw(st.lists(st.binary(min_size=1, max_size=63), max_size=5))
    start = b"".join(bytes([len(label)]) + label for label in labels)
    return start + draw(st.one_of(st.just(b"\0"), st.integers(0, 300).map(dns.pointer), st.just(SERVICE)))


@st.composite
def data_of(draw: st.DrawFn, kind: int) -> bytes:
    """Right or nearly right data of a record of this type."""
    right = {dns.A: bytes(4), dns.AAAA: bytes(16), dns.TXT: TEXT}.get(kind)
    if right is None:
        right = bytes(6 if kind == dns.SRV else 0) + draw(owners())
    return draw(st.one_of(st.just(right), st.just(right + b"\0"), st.just(right[:-1]), st.binary(max_size=30)))


@st.composite
def messages(draw: st.DrawFn, flags: st.SearchStrategy[int]) -> bytes:
    """A message about our service, with wrong values, and perhaps some bytes changed."""
    questions = [ASK, *draw(st.lists(st.builds(dns.question, owners(), KINDS), max_size=4))]
    records = []
    for kind in draw(st.lists(KINDS, max_size=6)):
        data = draw(data_of(kind))
        size = draw(st.sampled_from([None, None, None, len(data) + 1, 0, 0xFFFF]))
        records.append(dns.record(draw(owners()), kind, data, draw(st.integers(0, 2**32 - 1)), size))
    datagram = bytearray(dns.message(questions, records, flags=draw(flags), tail=draw(st.binary(max_size=8))))
    for _ in range(draw(st.integers(0, 2))):
        datagram[draw(st.integers(0, len(datagram) - 1))] = draw(st.integers(0, 255))
    return bytes(datagram)


@given(st.one_of(st.binary(max_size=300), messages(st.sampled_from([dns.QUERY, dns.RESPONSE, 0xFFFF]))))
@example(b"")
def test_only_bad_packet_leaves_the_reader(datagram: bytes) -> None:
    try:
        reading = read_message_untrusted(datagram)
    except BadPacket:
        return
    if isinstance(reading, Response):
        for found in reading.texts:
            assert found.text in datagram
            assert found.name.endswith(f".{SERVICE_TYPE}")


@given(messages(st.just(dns.QUERY)))
@example(dns.query_with_chain(900))
@example(dns.query_that_lies())
@example(dns.query_with_long_name())
def test_python_zeroconf_reads_each_query_that_passes_to_its_end(datagram: bytes) -> None:
    """python-zeroconf never recurses deeply, fails, or reads other records than we have checked."""
    try:
        reading = read_message_untrusted(datagram)
    except BadPacket:
        return
    assume(isinstance(reading, Query))  # a changed byte may have made a response of it
    with TestCase().assertNoLogs("zeroconf", "DEBUG"):  # python-zeroconf logs there what it cannot read
        incoming = DNSIncoming(datagram)
        incoming.answers()
    assert incoming.valid
    assert len(incoming.questions) == incoming.num_questions


# --- TXT data ------------------------------------------------------------------------------------------------------


def test_pairs_of_a_text() -> None:
    assert read_text_untrusted(TEXT) == {b"grp": b"default", b"id": b"0123456789abcdef"}


def test_pair_with_and_without_a_value() -> None:
    assert read_text_untrusted(b"\x01a\x02b=\x05c=d=e") == {b"a": None, b"b": b"", b"c": b"d=e"}


def test_first_pair_of_a_name_counts() -> None:
    """RFC 6763 section 6.4. A pair without a name does not count."""
    assert read_text_untrusted(b"\x03a=1\x03a=2\x02=x\x00") == {b"a": b"1"}


def test_text_that_ends_too_early_is_refused() -> None:
    for size in range(1, len(TEXT)):
        if size != 1 + TEXT[0]:
            with pytest.raises(BadPacket):
                read_text_untrusted(TEXT[:size])


def test_pairs_are_bounded() -> None:
    pairs = dns.text_data({f"k{n}": "" for n in range(MAX_PAIRS)})
    assert len(read_text_untrusted(pairs)) == MAX_PAIRS
    with pytest.raises(BadPacket):
        read_text_untrusted(pairs + b"\x01x")


@given(st.binary(max_size=600))
def test_only_bad_packet_leaves_the_reader_of_texts(text: bytes) -> None:
    try:
        pairs = read_text_untrusted(text)
    except BadPacket:
        return
    assert len(pairs) <= MAX_PAIRS


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=5), st.text(max_size=40), max_size=MAX_PAIRS))
def test_written_pairs_are_read(pairs: dict[str, str]) -> None:
    expected = {key.encode(): value.encode() for key, value in pairs.items()}
    assert read_text_untrusted(dns.text_data(pairs)) == expected
