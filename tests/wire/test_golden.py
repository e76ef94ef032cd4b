"""This version reads what each release has sent and saved, and sends the same as the release of its number."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from pskkey import __version__
from pskkey.wire.advert import advert_key, decode_advert_untrusted, encode_advert
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from pskkey.wire.saved import MAX_SAVED_SIZE, decode_saved_untrusted, encode_saved
from tests.wire.golden import ADVERTS, MESSAGES, PSK, STATES, VECTORS, describe

RELEASES: Final = sorted(path.name.removeprefix("wire-") for path in VECTORS.glob("wire-*"))


def entries(release: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(VECTORS, f"wire-{release}", f"{name}.json").read_text("utf-8"))
    assert found
    return found


def known_part(now: Any, then: Any) -> Any:
    """Return `now` with those fields only that `then` has."""
    if isinstance(then, dict):
        return {name: known_part(now[name], value) for name, value in then.items()}
    if isinstance(then, list) and len(then) == len(now):
        return [known_part(one, other) for one, other in zip(now, then, strict=True)]
    return now


@pytest.mark.parametrize("release", RELEASES)
def test_packets_of_each_release_are_read(release: str) -> None:
    for entry in entries(release, "packets"):
        assert entry["readers"]
        for channel, side in entry["readers"]:
            (message,) = PacketReader(Channel(channel), Side(side)).receive_untrusted(bytes.fromhex(entry["bytes"]))
            assert known_part(describe(message), entry["value"]) == entry["value"], entry["name"]


@pytest.mark.parametrize("release", RELEASES)
def test_adverts_of_each_release_are_read(release: str) -> None:
    for entry in entries(release, "adverts"):
        received = {name.encode(): value.encode() for name, value in entry["pairs"].items()}
        advert = decode_advert_untrusted(received, [advert_key(PSK)])
        assert known_part(describe(advert), entry["value"]) == entry["value"]


@pytest.mark.parametrize("release", RELEASES)
def test_states_that_each_release_has_saved_are_read(release: str) -> None:
    for entry in entries(release, "saved_states"):
        state = decode_saved_untrusted(bytes.fromhex(entry["bytes"]))
        assert known_part(describe(state), entry["value"]) == entry["value"]


def test_this_version_sends_and_saves_what_its_release_does() -> None:
    """A change here is a change of the wire format: `python -m tests.wire.golden` writes the packets of a release."""
    assert __version__ in RELEASES
    sent = [encode(message).hex() for messages in MESSAGES.values() for message in messages]
    assert sent == [entry["bytes"] for entry in entries(__version__, "packets") if entry["name"] in MESSAGES]
    pairs = [encode_advert(advert, advert_key(PSK)) for advert in ADVERTS]
    assert pairs == [entry["pairs"] for entry in entries(__version__, "adverts")]
    saved = [encode_saved(state).hex() for state in STATES]
    assert saved == [entry["bytes"] for entry in entries(__version__, "saved_states")]


def test_size_of_the_key_store_is_that_of_each_release() -> None:
    """A state is in a file of the fixed size, which the daemon of another version made."""
    assert MAX_SAVED_SIZE == 196_608
