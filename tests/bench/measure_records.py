"""How many records a second one core seals and opens in memory: ours, and wolfSSL's through ctypes, in one run.

wolfSSL's numbers hold the cost of its calls from Python and of the callbacks into Python that carry its datagrams: they
are what a Python program gets from it, not what a C program does.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pskkey.mcast import GroupSession, RecordProtection
from pskkey.model import Key, KeyEntry, KeyState, Suite
from pskkey.secret import Secret
from tests.interop.wolfssl import WolfMember, version

RECORDS = 50_000
EPOCH, ROUNDS = 7, 6
EVERY = 4.0
"""Seconds between the beginnings of two rounds: one busy neighbour of the machine is not to have them all."""
SENDER, RECEIVER = 1, 2
GOALS = {
    Suite.WDM_WITH_NULL_SHA256: (250_000, 250_000),
    Suite.PSK_CHACHA20_POLY1305: (200_000, 180_000),
}


class Rates(NamedTuple):
    """Records per second: the best of several rounds, which other load on the machine disturbs least."""

    sealed: int
    opened: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="tests/bench/records", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--size", type=int, default=64, help="bytes of plaintext (64, for which the goals are)")
    options = parser.parse_args(arguments)
    results = _measure(options.size)
    met = all(
        rates["pskkey"].sealed >= GOALS[suite][0]
        and rates["pskkey"].opened >= GOALS[suite][1]
        and rates["pskkey"].opened > rates["wolfssl"].opened
        for suite, rates in results.items()
    )
    if options.json:
        print(json.dumps(_as_json(results, options.size, met)))
    else:
        _print_table(results, options.size, met)
    return 0 if met else 1


def _measure(size: int) -> dict[Suite, dict[str, Rates]]:
    keys = {suite: Key(Secret(bytes(range(64))), bytes(32), bytes(range(32)), suite) for suite in Suite}
    plaintext = bytes(size)
    results = {suite: dict.fromkeys(MEASURED, Rates(0, 0)) for suite in Suite}
    begin = time.monotonic()
    for number in range(ROUNDS):
        time.sleep(max(0.0, begin + number * EVERY - time.monotonic()))
        # In turns, so that a change of the machine's load meets all of them alike.
        for suite, key in keys.items():
            for name, measure in MEASURED.items():
                best, rates = results[suite][name], measure(key, plaintext)
                results[suite][name] = Rates(max(best.sealed, rates.sealed), max(best.opened, rates.opened))
    return results


def _ours(key: Key, plaintext: bytes) -> Rates:
    protection = RecordProtection(key, EPOCH)
    seal, opened = protection.seal, protection.open
    sealed_rate, records = _timed(lambda number: seal(SENDER, number, plaintext), range(RECORDS))
    opened_rate, plaintexts = _timed(lambda record: opened(record)[2], records)
    _check(plaintexts, plaintext)
    return Rates(sealed_rate, opened_rate)


def _session(key: Key, plaintext: bytes) -> Rates:
    """With all that a member does besides: sequence, choice of the key, replay window, counters."""
    entry = KeyEntry(EPOCH, key, send=True)
    senders = frozenset({SENDER, RECEIVER})
    sender, receiver = GroupSession(), GroupSession()
    sender.apply(KeyState(SENDER, senders, (entry,)))
    receiver.apply(KeyState(RECEIVER, senders, (entry,)))
    sealed_rate, records = _timed(lambda _: sender.send(plaintext), range(RECORDS))
    opened_rate, messages = _timed(receiver.receive, records)
    _check([message.plaintext if message else None for message in messages], plaintext)
    return Rates(sealed_rate, opened_rate)


def _wolfssl(key: Key, plaintext: bytes) -> Rates:
    sender, receiver = WolfMember(key, EPOCH, SENDER, [RECEIVER]), WolfMember(key, EPOCH, RECEIVER, [SENDER])
    sealed_rate, records = _timed(lambda _: sender.seal(plaintext), range(RECORDS))
    opened_rate, messages = _timed(receiver.open, records)
    _check([message.plaintext if message else None for message in messages], plaintext)
    sender.close()
    receiver.close()
    return Rates(sealed_rate, opened_rate)


MEASURED = {"pskkey": _ours, "session": _session, "wolfssl": _wolfssl}


def _timed[T, R](work: Callable[[T], R], inputs: Sequence[T]) -> tuple[int, list[R]]:
    # Of the core's time, and not of the clock's, for others may have it in between.
    begin = time.process_time()
    results = [work(each) for each in inputs]
    return round(len(inputs) / (time.process_time() - begin)), results


def _check(opened: Sequence[bytes | None], plaintext: bytes) -> None:
    if any(each != plaintext for each in opened):
        raise AssertionError("what was opened is not what was sealed")


def _as_json(results: dict[Suite, dict[str, Rates]], size: int, met: bool) -> dict[str, object]:
    suites = {
        suite.name: {name: rates._asdict() for name, rates in by_name.items()}
        | {"goal": Rates(*GOALS[suite])._asdict()}
        for suite, by_name in results.items()
    }
    return {"schema": 1, "size": size, "wolfssl_version": version(), "suites": suites, "goals_met": met}


def _print_table(results: dict[Suite, dict[str, Rates]], size: int, met: bool) -> None:
    print(f"records per second, {size} bytes, one core; wolfSSL {version()} through ctypes")
    print(f"{'suite':<24}{'':<18}{'sealed':>10}{'opened':>10}")
    for suite, by_name in results.items():
        rows = {
            "RecordProtection": by_name["pskkey"],
            "GroupSession": by_name["session"],
            "wolfSSL": by_name["wolfssl"],
            "goal": Rates(*GOALS[suite]),
        }
        for name, rates in rows.items():
            print(f"{suite.name:<24}{name:<18}{rates.sealed:>10,}{rates.opened:>10,}")
    print("all goals met" if met else "a goal was missed")


if __name__ == "__main__":
    sys.exit(main())
