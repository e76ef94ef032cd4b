"""Records per second that one core seals and opens in memory: our record layer, the bare cipher, and wolfSSL.

The goals are ratios within one run, because an absolute rate depends on the machine. The record layer is compared with
the bare calls into `cryptography` that it uses, and with wolfSSL through ctypes. The rates of wolfSSL include its calls
from Python, and the callbacks into Python that carry its datagrams. So they are the rates of a Python program and
not those of a C program.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypedDict

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from pskkey.mcast import GroupSession, RecordProtection
from pskkey.model import Key, KeyEntry, KeyState, Suite
from pskkey.secret import Secret
from tests.interop.wolfssl import WolfMember, version

RECORDS: Final = 20_000
ROUNDS: Final = 12
EVERY: Final = 2.0
"""Seconds between the beginnings of two rounds. A short load on the machine must not disturb all rounds."""
EPOCH: Final = 7
SENDER: Final = 1
RECEIVER: Final = 2
NONCE: Final = bytes(12)
AUTHENTICATED: Final = bytes(13)
"""As long as the data that a record authenticates besides its plaintext (RFC 6347 section 4.1.2.1)."""


class Rates(NamedTuple):
    """Records per second of the core's time."""

    sealed: float
    opened: float

    def over(self, other: "Rates") -> "Rates":
        """Return how many times as fast as `other` these rates are."""
        return Rates(self.sealed / other.sealed, self.opened / other.opened)


class Goal(NamedTuple):
    """The least ratio of our rates to the `other` rates, in the median of all rounds."""

    ours: str
    other: str
    least: Rates


class JudgedGoal(TypedDict):
    """A goal, the measured ratio, and whether the goal is met."""

    ours: str
    other: str
    least: dict[str, float]
    measured: dict[str, float]
    met: bool


class Judged(TypedDict):
    """The medians of one suite's rounds, and its goals."""

    rates: dict[str, dict[str, float]]
    goals: list[JudgedGoal]


GOALS: Final = (
    Goal("RecordProtection", "bare", Rates(0.4, 0.4)),
    Goal("RecordProtection", "wolfSSL", Rates(0.0, 1.0)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="tests/bench/records", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--size", type=int, default=64, help="bytes of plaintext (64, for which the goals are)")
    options = parser.parse_args(arguments)
    rounds = _measure(options.size)
    suites = {suite.name: _judged(measured) for suite, measured in rounds.items()}
    met = all(goal["met"] for judged in suites.values() for goal in judged["goals"])
    if options.json:
        print(json.dumps({"schema": 2, "size": options.size, "wolfssl_version": version(), "suites": suites}))
    else:
        _print_tables(suites, options.size)
        print("all goals met" if met else "a goal was missed")
    return 0 if met else 1


def _measure(size: int) -> dict[Suite, list[dict[str, Rates]]]:
    keys = {suite: Key(Secret(bytes(range(64))), bytes(32), bytes(range(32)), suite) for suite in Suite}
    plaintext = bytes(size)
    rounds: dict[Suite, list[dict[str, Rates]]] = {suite: [] for suite in Suite}
    begin = time.monotonic()
    for number in range(ROUNDS):
        time.sleep(max(0.0, begin + number * EVERY - time.monotonic()))
        # All are measured in each round, so that a change of the machine's load affects all of them alike.
        for suite, key in keys.items():
            rounds[suite].append({name: measure(key, plaintext) for name, measure in MEASURED.items()})
    return rounds


def _judged(rounds: Sequence[dict[str, Rates]]) -> Judged:
    """Return the medians of the rounds, and whether the goals are met."""
    goals: list[JudgedGoal] = []
    for ours, other, least in GOALS:
        ratio = _median([each[ours].over(each[other]) for each in rounds])
        met = ratio.sealed >= least.sealed and ratio.opened >= least.opened
        goals.append({"ours": ours, "other": other, "least": least._asdict(), "measured": ratio._asdict(), "met": met})
    return {"rates": {name: _median([each[name] for each in rounds])._asdict() for name in MEASURED}, "goals": goals}


def _median(rates: Sequence[Rates]) -> Rates:
    return Rates(*(statistics.median(direction) for direction in zip(*rates, strict=True)))


def _bare(key: Key, plaintext: bytes) -> Rates:
    """Measure only the calls into `cryptography`, on prepared inputs."""
    if key.suite is Suite.WDM_WITH_NULL_SHA256:
        keyed = HMAC(bytes(32), SHA256())

        def authenticate(data: bytes) -> bytes:
            mac = keyed.copy()
            mac.update(data)
            return mac.finalize()

        inputs = [AUTHENTICATED + plaintext] * RECORDS
        return Rates(_timed(authenticate, inputs)[0], _timed(authenticate, inputs)[0])
    aead = ChaCha20Poly1305(bytes(32))
    sealed_rate, sealed = _timed(lambda each: aead.encrypt(NONCE, each, AUTHENTICATED), [plaintext] * RECORDS)
    return Rates(sealed_rate, _timed(lambda each: aead.decrypt(NONCE, each, AUTHENTICATED), sealed)[0])


def _ours(key: Key, plaintext: bytes) -> Rates:
    protection = RecordProtection(key, EPOCH)
    seal, opened = protection.seal, protection.open
    sealed_rate, records = _timed(lambda number: seal(SENDER, number, plaintext), range(RECORDS))
    opened_rate, plaintexts = _timed(lambda record: opened(record)[2], records)
    _check(plaintexts, plaintext)
    return Rates(sealed_rate, opened_rate)


def _session(key: Key, plaintext: bytes) -> Rates:
    """Measure all the work of a member, with sequence numbers, choice of the key, replay window and counters."""
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


MEASURED: Final = {"bare": _bare, "RecordProtection": _ours, "GroupSession": _session, "wolfSSL": _wolfssl}


def _timed[T, R](work: Callable[[T], R], inputs: Sequence[T]) -> tuple[float, list[R]]:
    # Processor time and not clock time, because other processes may use the core in between.
    begin = time.process_time()
    results = [work(each) for each in inputs]
    return len(inputs) / (time.process_time() - begin), results


def _check(opened: Sequence[bytes | None], plaintext: bytes) -> None:
    if any(each != plaintext for each in opened):
        raise AssertionError("an opened plaintext differs from the sealed plaintext")


def _print_tables(suites: dict[str, Judged], size: int) -> None:
    print(f"records per second, {size} bytes, one core, medians; wolfSSL {version()} through ctypes")
    print(f"{'suite':<24}{'':<18}{'sealed':>10}{'opened':>10}")
    for suite, judged in suites.items():
        for name, rates in judged["rates"].items():
            print(f"{suite:<24}{name:<18}{rates['sealed']:>10,.0f}{rates['opened']:>10,.0f}")
    print("times as fast as another, medians, and the least that is promised")
    for suite, judged in suites.items():
        for goal in judged["goals"]:
            measured, least = goal["measured"], goal["least"]
            print(
                f"{suite:<24}{goal['ours']} / {goal['other']:<10}"
                f"sealed {measured['sealed']:.2f} ({least['sealed']:.2f})  "
                f"opened {measured['opened']:.2f} ({least['opened']:.2f})"
            )


if __name__ == "__main__":
    sys.exit(main())
