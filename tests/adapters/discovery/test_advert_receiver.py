"""The events for adverts with their sources, and the table of the adverts that were heard.

The adverts are signed as on the wire, and the time is virtual.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from pskkey.adapters.discovery.advert_receiver import (
    MAX_SOURCES,
    NEW_SOURCE_EVERY,
    SOURCE_REMEMBERED,
    AdvertReceiver,
)
from pskkey.adapters.discovery.heard_adverts import MAX_OTHERS, MAX_OURS, MAX_SHOWN, REMEMBERED
from pskkey.adapters.discovery.source import Source
from pskkey.config.psk import PskFile, generate_psk_line, load_psk
from pskkey.core.events import AdvertReceived, Event
from pskkey.model import Advert, Role
from pskkey.wire.advert import SERVICE_TYPE, advert_key, encode_advert, instance_name
from pskkey.wire.dns import InstanceText
from tests.wire.dns_messages import text_data
from tests.wire.test_advert import signed

NODE: Final = Advert("plant", "00000001" * 2, "pump", 100, True, Role.CLIENT, 3, 1, ("10.1.0.1",), 11111)
NEAR, FAR = Source("10.1.0.1", 0), Source("10.2.0.1", 0)


def psk_file(path: Path) -> PskFile:
    path.touch(0o600)
    path.write_text(generate_psk_line("group") + "\n")
    return load_psk(path)


class Receiver:
    """An AdvertReceiver with its events since the last look at them."""

    def __init__(self, directory: Path) -> None:
        self.psk = psk_file(directory / "psk")
        self.other_psk = psk_file(directory / "other")
        self.counters: Counter[str] = Counter()
        self._events: list[Event] = []
        self._receiver = AdvertReceiver(
            group="plant",
            psk=lambda: self.psk,
            is_ours=lambda _: False,
            emit=self._events.append,
            counters=self.counters,
        )

    def take(self, advert: Advert, source: Source = NEAR, now: float = 0.0, psk: PskFile | None = None) -> None:
        """Take an advert that is signed with our PSK, or with another one."""
        pairs = encode_advert(advert, advert_key((psk or self.psk).active.key))
        self.take_pairs(pairs, advert.id, source, now)

    def take_pairs(self, pairs: dict[str, str], node_id: str, source: Source = NEAR, now: float = 0.0) -> None:
        text = InstanceText(f"{instance_name(node_id)}.{SERVICE_TYPE}", text_data(pairs))
        self._receiver.take_untrusted(text, source, now)

    def events(self) -> list[tuple[Advert, str]]:
        """Return the adverts and sources of the events since the last call."""
        found = [(event.advert, event.source) for event in self._events if isinstance(event, AdvertReceived)]
        self._events.clear()
        return found

    def heard(self, now: float = 0.0) -> list[tuple[str, str, str | None, str, str, float]]:
        """Return the rows of the table without the instances."""
        return [(r.kind, r.name, r.node_id, r.group, r.source, r.age) for r in self._receiver.heard(now)]

    def places(self) -> list[tuple[tuple[str, ...], int]]:
        """Return the addresses and the port of each row."""
        return [(row.addresses, row.port) for row in self._receiver.heard(0.0)]


@pytest.fixture
def it(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


def test_event_has_the_address_that_the_advert_came_from(it: Receiver) -> None:
    it.take(NODE, NEAR)
    assert it.events() == [(NODE, "10.1.0.1")]


def test_same_advert_from_another_source_is_reported_once(it: Receiver) -> None:
    it.take(NODE, NEAR)
    it.take(NODE, FAR)
    it.take(NODE, NEAR, 1.0)
    it.take(NODE, FAR, 1.0)
    assert it.events() == [(NODE, "10.1.0.1"), (NODE, "10.2.0.1")]


def test_new_text_is_reported_once_though_it_comes_from_two_sources(it: Receiver) -> None:
    changed = replace(NODE, term=4)
    it.take(NODE, NEAR)
    it.take(NODE, FAR)
    it.take(changed, FAR, 5.0)
    it.take(changed, NEAR, 5.0)
    assert it.events()[2:] == [(changed, "10.2.0.1")]


def test_source_that_was_silent_for_long_is_reported_again(it: Receiver) -> None:
    it.take(NODE, NEAR)
    it.take(NODE, NEAR, SOURCE_REMEMBERED)
    it.take(NODE, NEAR, 2 * SOURCE_REMEMBERED + 1)
    assert len(it.events()) == 2


def test_repetition_of_a_listening_node_is_reported_with_its_source(it: Receiver) -> None:
    """It may not have been answered. But the same advert over the other version of IP at once is no repetition."""
    listening = replace(NODE, role=Role.LISTENING)
    for now in (0.0, 0.25, 1.0):
        for source, after in ((NEAR, 0.0), (NEAR, 0.01), (FAR, 0.02)):
            it.take(listening, source, now + after)
    assert [source for _, source in it.events()] == ["10.1.0.1", "10.2.0.1", "10.1.0.1", "10.1.0.1"]


def test_recorded_advert_from_many_sources_causes_few_events(it: Receiver) -> None:
    """A stranger needs no PSK for this. Each round has more sources than are remembered."""
    it.take(NODE)
    seconds = 10
    for step in range(1000 * seconds):
        it.take(NODE, Source(f"10.9.0.{step % (4 * MAX_SOURCES)}", 0), step / 1000)
    assert len(it.events()) <= 1 + seconds / NEW_SOURCE_EVERY


def test_number_of_remembered_sources_is_bounded(it: Receiver) -> None:
    """One source more than that makes the first one new again."""
    it.take(NODE, Source("10.9.0.0", 0))
    for number in range(1, MAX_SOURCES + 1):
        it.take(NODE, Source(f"10.9.0.{number}", 0), float(number))
    it.events()
    it.take(NODE, Source("10.9.0.0", 0), MAX_SOURCES + 1.0)
    assert it.events() == [(NODE, "10.9.0.0")]


def test_further_sources_are_reported_with_the_repeats_of_an_announcement(it: Receiver) -> None:
    sources = [Source(f"10.{number}.0.1", 0) for number in range(4)]
    for now in (0.0, 0.25, 1.0):
        for source in sources:
            it.take(NODE, source, now)
    assert {source for _, source in it.events()} == {source.address for source in sources}


def test_unchanged_adverts_count_as_new_after_the_psk_has_changed(it: Receiver, tmp_path: Path) -> None:
    it.take(NODE)
    it.psk = load_psk(tmp_path / "psk")
    it.take(NODE)
    assert len(it.events()) == 2


# --- the table -----------------------------------------------------------------------------------------------------


def test_table_shows_nodes_of_our_group_of_other_groups_and_with_another_psk(it: Receiver) -> None:
    other_group, other_psk = replace(NODE, id="00000002" * 2, group="depot"), replace(NODE, id="00000003" * 2)
    it.take(NODE, NEAR, 1.0)
    it.take(other_group, FAR, 2.0)
    it.take(other_psk, FAR, 3.0, it.other_psk)
    assert it.heard(4.0) == [
        ("ours", "pump", NODE.id, "plant", "10.1.0.1", 3.0),
        ("other_group", "pump", None, "depot", "10.2.0.1", 2.0),
        ("other_psk", "pump", None, "plant", "10.2.0.1", 1.0),
    ]


def test_repeated_advert_renews_its_row(it: Receiver) -> None:
    it.take(NODE, NEAR, 1.0)
    it.take(NODE, FAR, 5.0)
    assert it.heard(6.0) == [("ours", "pump", NODE.id, "plant", "10.2.0.1", 1.0)]


def test_old_row_is_left_out(it: Receiver) -> None:
    it.take(NODE, NEAR, 1.0)
    assert len(it.heard(1.0 + REMEMBERED)) == 1
    assert it.heard(1.1 + REMEMBERED) == []


def test_strangers_remove_no_row_of_our_group_and_their_rows_are_bounded(it: Receiver) -> None:
    it.take(NODE, NEAR)
    for number in range(2 * MAX_OTHERS):
        it.take_pairs({"grp": "depot"}, f"{number:08x}" * 2)
    rows = it.heard()
    assert rows[0] == ("ours", "pump", NODE.id, "plant", "10.1.0.1", 0.0)
    assert len(rows) == 1 + MAX_OTHERS


def test_rows_of_our_group_are_bounded_and_the_newest_remain(it: Receiver) -> None:
    for number in range(MAX_OURS + 10):
        it.take(replace(NODE, id=f"{number:08x}" * 2), NEAR, float(number) / 100)
    ids = [row[2] for row in it.heard(3.0)]
    assert ids == [f"{number:08x}" * 2 for number in range(10, MAX_OURS + 10)]


def test_stranger_under_the_name_of_our_node_gets_a_row_of_its_own(it: Receiver) -> None:
    it.take(NODE, NEAR)
    it.take_pairs({"grp": "plant", "name": "evil"}, NODE.id, FAR)
    assert [row[:3] for row in it.heard()] == [("ours", "pump", NODE.id), ("other_psk", "evil", None)]


def test_node_that_has_our_psk_now_is_shown_once(it: Receiver) -> None:
    it.take(NODE, psk=it.other_psk)
    it.take(NODE, now=1.0)
    assert [row[:3] for row in it.heard(1.0)] == [("ours", "pump", NODE.id)]


def test_record_of_another_version_is_not_of_another_psk(it: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    key = advert_key(it.psk.active.key)
    pairs = {name.encode(): text.encode() for name, text in encode_advert(NODE, key).items()} | {b"txtvers": b"2"}
    it.take_pairs({name.decode(): (value or b"").decode() for name, value in signed(pairs, key).items()}, NODE.id)
    assert it.heard() == []
    assert "TXT pair txtvers is not 1: is its version another one?" in caplog.text


def test_text_of_a_stranger_in_a_row_is_printable_and_short(it: Receiver) -> None:
    pairs = {"grp": "d" * 200, "name": "\x1b[2J\u202e" + "n" * 200}
    it.take_pairs(pairs, NODE.id)
    ((_, name, _, group, _, _),) = it.heard()
    assert name == "?[2J?" + "n" * (MAX_SHOWN - 5)
    assert group == "d" * MAX_SHOWN


def test_record_without_a_group_gets_no_row(it: Receiver) -> None:
    it.take_pairs({"id": NODE.id}, NODE.id)
    assert it.heard() == []


def test_only_verified_advert_has_addresses_in_the_table(it: Receiver) -> None:
    it.take(NODE)
    it.take(replace(NODE, id="00000002" * 2), psk=it.other_psk)
    assert it.places() == [(("10.1.0.1",), 11111), ((), 0)]
