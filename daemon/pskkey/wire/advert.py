"""The signed TXT record that a node advertises over mDNS (RFC 6763 section 6).

    txtvers  1
    grp      group name
    id       node id, 8..32 lowercase hex digits
    name     name of the node for people, cut to fit its pair
    pri      priority, 0..255
    el       1 when the node may become master, else 0
    role     l listening, j joining, c client, m master
    term     highest term that the node has seen
    n        members in the group as the node knows it
    addr     IP addresses, separated by commas; those that do not fit the pair are left out
    port     TCP port of the key server
    pv       protocol levels that the node speaks, lowest-highest, each 1..255; left out: 1-1
    full     1 when the master has no place for another member; left out when it has
    ch       challenge: 1..20 characters of A-Z a-z 0-9 - _, never used before; left out when there is none
    re       challenges of others that this advert answers, separated by commas; left out when there are none
    sig      base64url without padding of the first 16 bytes of HMAC-SHA256 over all other pairs

The HMAC input is, for each pair in the order of its key's bytes: key length u16, key, value length u16, value. With
its lengths no pair can be read as another. A pair without a value counts as one with an empty value, because older
releases of python-zeroconf do not distinguish the two. Unknown pairs are signed like the others and ignored.
"""

import base64
import hmac
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pskkey.errors import BadPacket
from pskkey.model import MAX_ANSWERS, MAX_MEMBERS, SPEAKS, Advert, Levels, Role
from pskkey.secret import Secret
from pskkey.wire.fields import (
    LEVEL_1,
    MAX_ADDRESSES,
    MAX_LEVEL,
    MAX_TERM,
    MAX_TEXT,
    check_printable,
    parse_address,
)

SERVICE_TYPE: Final = "_pskkey._tcp.local."
MAX_PAIR: Final = 255
"""Bytes of one `key=value` (RFC 6763 section 6.1)."""

MAX_PAIRS: Final = 32
SIGNATURE_SIZE: Final = 16

_VERSION: Final = "1"
_KEY_INFO: Final = b"pskkey mdns advert 1"
_LENGTHS: Final = struct.Struct("!H")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_NODE_ID: Final = re.compile(r"[0-9a-f]{8,32}", re.ASCII)
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{1,20}", re.ASCII)
_ROLES: Final = {"l": Role.LISTENING, "j": Role.JOINING, "c": Role.CLIENT, "m": Role.MASTER}
_LETTERS: Final = {role: letter for letter, role in _ROLES.items()}


def instance_name(node_id: str) -> str:
    """Return the service instance's own label, without the service type: `pskkey-` and the whole id.

    It has at most 39 bytes; a label may have 63. A shorter name could be that of another node, too: each of the two
    would replace the record of the other.
    """
    return f"pskkey-{node_id}"


def advert_key(psk: Secret) -> Secret:
    """Return the 32-byte signing key that belongs to a PSK: HKDF-SHA256 (RFC 5869) with a label of its own."""
    return Secret(HKDF(algorithm=SHA256(), length=32, salt=None, info=_KEY_INFO).derive(psk.reveal()))


def encode_advert(advert: Advert, key: Secret) -> dict[str, str]:
    """Return the pairs of the TXT record, signed. Raises ValueError when a field is out of bounds."""
    pairs = {
        "txtvers": _VERSION,
        "grp": _checked_group(advert.group),
        "id": advert.id,
        "name": _fitting_name(advert.name),
        "pri": str(advert.priority),
        "el": "1" if advert.eligible else "0",
        "role": _LETTERS[advert.role],
        "term": str(advert.term),
        "n": str(advert.members),
        "addr": _fitting_addresses(advert.addresses),
        "port": str(advert.port),
        "pv": f"{advert.speaks.lowest}-{advert.speaks.highest}",
    }
    if advert.is_full:
        pairs["full"] = "1"
    if advert.challenge:
        pairs["ch"] = advert.challenge
    if advert.answers:
        pairs["re"] = ",".join(advert.answers)
    encoded: dict[bytes, bytes | None] = {name.encode(): value.encode() for name, value in pairs.items()}
    try:
        _advert_untrusted(encoded)
    except BadPacket as error:
        raise ValueError(f"this cannot be advertised: {error}") from None
    return {**pairs, "sig": _signature(encoded, key).decode()}


def group_of_untrusted(properties: Mapping[bytes, bytes | None]) -> str | None:
    """Return the group that a record claims, unverified, so that the caller can skip the adverts of other groups."""
    try:
        return _checked_group(_text_untrusted(properties, "grp"))
    except (BadPacket, ValueError):
        return None


def decode_advert_untrusted(properties: Mapping[bytes, bytes | None], keys: Sequence[Secret]) -> Advert:
    """Read a TXT record that one of `keys` (each from `advert_key`) has signed.

    Raises BadPacket when none of them has, or when a pair is missing, malformed or out of bounds.
    """
    if len(properties) > MAX_PAIRS:
        raise BadPacket(f"more than {MAX_PAIRS} TXT pairs")
    if any(len(name) + 1 + len(value or b"") > MAX_PAIR for name, value in properties.items()):
        raise BadPacket(f"a TXT pair is longer than {MAX_PAIR} bytes")
    if not properties.get(b"sig"):
        raise BadPacket("the advert is not signed")
    if not is_signed(properties, keys):
        raise BadPacket("the advert is not signed with an accepted PSK")
    try:
        return _advert_untrusted(properties)
    except BadPacket:
        if (stranger := _stranger(properties)) is None:
            raise
        return stranger


def is_signed(properties: Mapping[bytes, bytes | None], keys: Sequence[Secret]) -> bool:
    """Return whether one of `keys` (each from `advert_key`) has signed a TXT record of bounded size."""
    claimed = properties.get(b"sig") or b""
    # Compare the text, not the decoded bytes: two texts can decode to the same bytes.
    verified = [hmac.compare_digest(claimed, _signature(properties, key)) for key in keys]
    return any(verified)


def _signature(properties: Mapping[bytes, bytes | None], key: Secret) -> bytes:
    digest = hmac.new(key.reveal(), digestmod="sha256")
    for name in sorted(properties.keys() - {b"sig"}):
        value = properties[name] or b""
        digest.update(_LENGTHS.pack(len(name)) + name + _LENGTHS.pack(len(value)) + value)
    return base64.urlsafe_b64encode(digest.digest()[:SIGNATURE_SIZE]).rstrip(b"=")


def _advert_untrusted(properties: Mapping[bytes, bytes | None]) -> Advert:
    if _text_untrusted(properties, "txtvers") != _VERSION:
        raise BadPacket("TXT pair txtvers is not 1")
    node_id = _text_untrusted(properties, "id")
    if not _NODE_ID.fullmatch(node_id):
        raise BadPacket("TXT pair id is not 8..32 lowercase hex digits")
    role = _ROLES.get(_text_untrusted(properties, "role"))
    if role is None:
        raise BadPacket("TXT pair role is none of l j c m")
    try:
        group = _checked_group(_text_untrusted(properties, "grp"))
        name = _checked_name(_text_untrusted(properties, "name"))
        listed = _text_untrusted(properties, "addr")
        addresses = tuple(parse_address(text) for text in listed.split(",")) if listed else ()
    except ValueError as error:
        raise BadPacket(f"TXT record: {error}") from None
    if len(addresses) > MAX_ADDRESSES:
        raise BadPacket(f"TXT pair addr lists more than {MAX_ADDRESSES} addresses")
    challenges = _challenges_untrusted(properties, "ch", 1)
    return Advert(
        group=group,
        id=node_id,
        name=name,
        priority=_number_untrusted(properties, "pri", 0, 255),
        eligible=_number_untrusted(properties, "el", 0, 1) == 1,
        role=role,
        term=_number_untrusted(properties, "term", 0, MAX_TERM),
        members=_number_untrusted(properties, "n", 0, MAX_MEMBERS),
        addresses=addresses,
        port=_number_untrusted(properties, "port", 1, 65535),
        speaks=_levels_untrusted(properties),
        is_full=b"full" in properties and _number_untrusted(properties, "full", 1, 1) == 1,
        challenge=challenges[0] if challenges else "",
        answers=_challenges_untrusted(properties, "re", MAX_ANSWERS),
    )


def _stranger(properties: Mapping[bytes, bytes | None]) -> Advert | None:
    """Return the advert of a node that has no level in common with this version, and other pairs. None: it is bad."""
    try:
        levels, node_id = _levels_untrusted(properties), _text_untrusted(properties, "id")
        group = _checked_group(_text_untrusted(properties, "grp"))
        role = _ROLES.get(_text_untrusted(properties, "role"), Role.LISTENING)
    except (BadPacket, ValueError):
        return None
    if levels.common(SPEAKS) is not None or not _NODE_ID.fullmatch(node_id):
        return None
    try:
        name = _checked_name(_text_untrusted(properties, "name"))
        answers = _challenges_untrusted(properties, "re", MAX_ANSWERS)
    except (BadPacket, ValueError):
        name, answers = node_id, ()
    return Advert(group, node_id, name, 0, False, role, 0, 0, (), 1, levels, answers=answers)


def _text_untrusted(properties: Mapping[bytes, bytes | None], name: str) -> str:
    encoded = name.encode()
    if encoded not in properties:
        raise BadPacket(f"TXT pair {name} is missing")
    try:
        return (properties[encoded] or b"").decode()
    except UnicodeDecodeError:
        raise BadPacket(f"TXT pair {name} is not UTF-8") from None


def _challenges_untrusted(properties: Mapping[bytes, bytes | None], name: str, most: int) -> tuple[str, ...]:
    if name.encode() not in properties:
        return ()
    texts = tuple(_text_untrusted(properties, name).split(","))
    if len(texts) > most or not all(map(_CHALLENGE.fullmatch, texts)):
        raise BadPacket(f"TXT pair {name} is not a list of challenges")
    return texts


def _levels_untrusted(properties: Mapping[bytes, bytes | None]) -> Levels:
    if b"pv" not in properties:
        return LEVEL_1
    text = _text_untrusted(properties, "pv")
    lowest, _, highest = text.partition("-")
    if not all(map(_NUMBER.fullmatch, (lowest, highest))) or not 1 <= int(lowest) <= int(highest) <= MAX_LEVEL:
        raise BadPacket(f"TXT pair pv is not a range within 1..{MAX_LEVEL}")
    return Levels(int(lowest), int(highest))


def _number_untrusted(properties: Mapping[bytes, bytes | None], name: str, low: int, high: int) -> int:
    text = _text_untrusted(properties, name)
    # One spelling for each number: no sign, no leading zero.
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise BadPacket(f"TXT pair {name} is not {low}..{high}")
    return int(text)


def _checked_group(group: str) -> str:
    if not 1 <= len(group.encode()) <= MAX_TEXT:
        raise ValueError(f"a group's name is 1..{MAX_TEXT} bytes")
    return check_printable(group)


def _checked_name(name: str) -> str:
    if not name:
        raise ValueError("a node's name is not empty")
    return check_printable(name)


def _room(name: str) -> int:
    return MAX_PAIR - len(name) - 1


def _fitting_name(name: str) -> str:
    # Cutting may split the last character, whose first bytes are then left out.
    return name.encode()[: _room("name")].decode(errors="ignore")


def _fitting_addresses(addresses: Sequence[str]) -> str:
    fitting = ""
    for address in addresses[:MAX_ADDRESSES]:
        longer = f"{fitting},{parse_address(address)}".lstrip(",")
        if len(longer) > _room("addr"):
            break
        fitting = longer
    return fitting
