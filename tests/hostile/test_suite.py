"""The parts of the attack suite itself: the datagrams match their names, and every broken bound is reported."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from zeroconf import ServiceInfo
from zeroconf._protocol.incoming import DNSIncoming

from pskkey.secret import Secret
from pskkey.wire.advert import SERVICE_TYPE, advert_key, decode_advert_untrusted
from tests.hostile import dns
from tests.hostile.attacker import Sent
from tests.hostile.attacks import ATTACKS, CALM, KINDS, Bounds, chosen
from tests.hostile.gauges import Cost, loop_away
from tests.hostile.outcome import RUN
from tests.hostile.packets import INVENTED, MDNS_ATTACKS, goodbye, invented_adverts, replayed
from tests.hostile.report import TIMES, Row, faults, row, table
from tests.hostile.siege import Findings
from tests.lab.namespaces import remove_stale

NAMESPACES: Final = Path("/run/netns")
STARTS_WITHIN: Final = 60.0
"""Seconds in which the calm run ends and an attack begins."""
ENDS_WITHIN: Final = 10.0
"""Seconds."""
NAMES: Final = ("pskkey-00000001", "pskkey-00000002")
GOOD: Final = Row(
    attack="good",
    times=dict.fromkeys(TIMES, 0.5),
    loop_away_ms=50.0,
    loop_by="daemon",
    memory_mib=16.0,
    lines_a_minute=60.0,
    cpu_s=1.0,
    packets_a_second=1.0,
    bytes_a_second=1.0,
    attack_packets_a_second=1.0,
    attack_bytes_a_second=1.0,
    attack_cpu_s=0.1,
    stalled_ms=0.0,
    faults=(),
)


@pytest.mark.parametrize("name", MDNS_ATTACKS)
def test_no_two_datagrams_in_a_row_are_the_same_and_each_can_be_sent(name: str) -> None:
    make, sources = MDNS_ATTACKS[name]
    made = make(NAMES)
    assert sources >= 1
    assert all(0 < len(packet) <= dns.LARGEST for packet in made)
    assert all(one != other for one, other in pairwise(made))


@pytest.mark.parametrize(
    ("name", "most_questions", "most_answers"),
    [
        ("many-questions", 1500, 0),
        ("truncated-1", 1500, 0),
        ("small-queries", 1, 0),
        ("answered-questions", 4, 0),
        ("many-records", 0, 330),
        ("tiny-records", 0, 820),
        ("absent-instances", 0, 15),
        ("absent-pointers", 0, 20),
        ("goodbyes", 0, 3),
    ],
)
def test_well_formed_datagrams_are_read_as_intended(name: str, most_questions: int, most_answers: int) -> None:
    read = DNSIncoming(MDNS_ATTACKS[name][0](NAMES)[0])
    assert read.valid
    assert read.truncated is name.startswith("truncated")
    assert 0.8 * most_questions <= len(read.questions) <= most_questions
    assert 0.8 * most_answers <= len(read.answers()) <= most_answers


def test_a_small_query_has_60_bytes() -> None:
    assert {len(packet) for packet in MDNS_ATTACKS["small-queries"][0](NAMES)} == {60}


def test_a_goodbye_withdraws_every_record() -> None:
    assert {record.ttl for record in DNSIncoming(goodbye(NAMES[0], 1)).answers()} == {0}


def test_invented_adverts_are_signed_with_the_psk() -> None:
    psk = Secret(bytes(range(32)))
    made = invented_adverts(psk, "default", "10.83.0.9")
    texts = [record for packet in made for record in DNSIncoming(packet).answers() if hasattr(record, "text")]
    properties = [ServiceInfo(SERVICE_TYPE, f"a.{SERVICE_TYPE}", properties=text.text).properties for text in texts]
    adverts = [decode_advert_untrusted(one, [advert_key(psk)]) for one in properties]
    assert len({advert.id for advert in adverts}) == INVENTED
    assert {advert.priority for advert in adverts} == {255}


def test_replayed_adverts_come_after_their_goodbyes_and_differ_only_in_the_message_id() -> None:
    recorded = b"\0\0 what was recorded"
    first, second, *_ = replayed({NAMES[0]: [recorded]}, with_goodbyes=True)
    assert first == goodbye(NAMES[0], 0)
    assert second[2:] == recorded[2:]
    assert first not in replayed({NAMES[0]: [recorded]}, with_goodbyes=False)


@pytest.mark.parametrize(
    "change",
    [
        *({"times": {**GOOD.times, time: seconds}} for time in TIMES for seconds in (None, 60.0)),
        {"loop_away_ms": 51.0},
        {"memory_mib": 16.1},
        {"lines_a_minute": 61.0},
    ],
)
def test_a_bound_that_is_not_kept_is_a_fault(change: Mapping[str, Any]) -> None:
    assert not list(faults(GOOD, Bounds()))
    assert len(list(faults(replace(GOOD, **change), Bounds()))) == 1


def test_the_standstill_of_the_machine_is_no_absence_of_the_loop() -> None:
    assert not list(faults(replace(GOOD, loop_away_ms=90.0, stalled_ms=40.0), Bounds()))
    assert list(faults(replace(GOOD, loop_away_ms=91.0, stalled_ms=40.0), Bounds()))


def test_costs_are_those_of_the_worst_daemon_beyond_a_calm_one() -> None:
    calm = Findings(
        costs={"n1": Cost(5.0, "daemon", 46.0, 0.8, 12, 30.0), "n2": Cost(5.0, "daemon", 44.0, 0.8, 10, 30.0)}
    )
    worst = Cost(70.0, "daemon", 60.0, 3.0, 72, 30.0)
    found = Findings(boot=1.0, costs={**calm.costs, "n2": worst}, sent=Sent(packets=300, bytes=900, seconds=30.0))
    made = row("garbage", found, calm)
    assert (made.loop_away_ms, made.memory_mib, made.lines_a_minute, made.cpu_s) == (70.0, 14.0, 60.0, 3.0)
    assert (made.attack_packets_a_second, made.attack_bytes_a_second) == (10.0, 30.0)
    assert "newcomer: never" in made.faults
    assert all(fault in table([made]) for fault in made.faults)
    assert asdict(made) == made.as_json()


def test_the_daemons_own_gauge_of_its_loop_is_preferred() -> None:
    assert loop_away({"counters": {"loop_away_ms": 7}}, 0.5) == (7.0, "daemon")
    assert loop_away({"loop_away_ms": 7, "counters": {}}, 0.5) == (7.0, "daemon")
    assert loop_away({"counters": {}}, 0.5) == (500.0, "round trips")
    assert loop_away(None, 0.5) == (500.0, "round trips")


def test_attacks_are_chosen_by_name_and_by_kind() -> None:
    everything = [name for name in ATTACKS if name != CALM]
    assert chosen([]) == chosen(list(KINDS)) == everything
    assert chosen(["garbage"]) == ["garbage"]
    assert set(chosen(["tls", "garbage"])) == {"garbage", "half-open", "wrong-psk", "tls-garbage"}


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "when_there_is"), [(signal.SIGINT, "pskkeyd"), (signal.SIGKILL, "tests.hostile.stranger")]
)
def test_nothing_is_left_behind(number: signal.Signals, when_there_is: str) -> None:
    command = [str(RUN), "garbage", "--seconds", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        label = f"psk-lab-{process.pid}-"
        deadline = time.monotonic() + STARTS_WITHIN
        while not (pids := _processes(label, when_there_is)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    deadline = time.monotonic() + ENDS_WITHIN
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, f"some of {pids} still run"
        time.sleep(0.02)
    if number is signal.SIGINT:
        assert process.returncode == 128 + number, errors.decode()
    else:
        remove_stale()
    assert not list(NAMESPACES.glob(f"{label}*"))
    assert not list(Path(tempfile.gettempdir()).glob(f"{label}*"))


def _processes(label: str, module: str) -> list[str]:
    """Return the pids of all processes on the hosts of a run, or none while `module` does not run."""
    found: list[str] = []
    for host in NAMESPACES.glob(f"{label}*"):
        command = ["ip", "netns", "pids", host.name]
        found += subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    command_lines = [path.read_bytes() for pid in found if (path := Path(f"/proc/{pid}/cmdline")).exists()]
    return found if any(module.encode() in line for line in command_lines) else []
