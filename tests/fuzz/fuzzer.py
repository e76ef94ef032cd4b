"""Feeds changed bytes to decoders. A seed repeats the bytes."""

import math
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pskkey.errors import BadPacket
from tests.fuzz.targets import Target

LONGEST: Final = 3.0
"""Processor time that a turn may take for each KiB of the input, in times of `reference`. Shorter ones count as 1 KiB.

It is a ratio, because processors differ, and other programs on the same one slow both alike.
"""

REPEATS: Final = 5
"""How often an input that seems slow is decoded again. A pause of the garbage collector does not repeat."""

INTERESTING: Final = (0x00, 0x01, 0x7F, 0x80, 0xC0, 0xFE, 0xFF, 0x22, 0x5B, 0x7B)
MOST_CHANGES: Final = 8
LARGEST: Final = 16 * 1024
"""Bytes of an input."""


def reference() -> float:
    """Return the seconds of processor time of a loop that is always the same."""
    began, total = time.thread_time(), 0
    for number in range(10_000):
        total += number
    return time.thread_time() - began


@dataclass(frozen=True, slots=True)
class Fault:
    """An input that a decoder answers with something else than a value or BadPacket, or too late."""

    target: str
    data: bytes
    reason: str


def change(chance: random.Random, samples: Sequence[bytes]) -> bytes:
    """Return a sample that is changed in a few places, cut, repeated, or joined with another one."""
    data = bytearray(chance.choice(samples))
    for _ in range(chance.randint(1, MOST_CHANGES)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(8):
            case 0:
                data[at : at + 1] = bytes([chance.choice(INTERESTING)])
            case 1 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 2:
                del data[at : at + chance.randint(1, 16)]
            case 3:
                data[at:at] = chance.randbytes(chance.randint(1, 16))
            case 4:
                data[at:at] = data[at : at + chance.randint(1, 64)] * chance.choice((1, 2, 50))
            case 5:
                data[at:at] = chance.choice(samples)
            case 6:
                data[at : at + 2] = chance.choice((0, 1, 255, 256, 32767, 32768, 65535)).to_bytes(2)
            case _:
                data[at:at] = chance.choice((b"1" * 400, b"[" * 200, b"\\u0000", b"1e999", b"\xc0\x0c", b"=", b"\0"))
    return bytes(data[:LARGEST])


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of processor time of the longest turn and of all turns of an input, for each KiB of it."""

    turn: float
    whole: float


def try_input(target: Target, data: bytes, usual: float) -> tuple[Times, Fault | None]:
    """Decode `data`. Return the times that it took, and the fault that shows, if one does.

    `usual` is the time that `reference` took a while ago.
    """
    try:
        times = _times_of(target, data)
        if times.turn > LONGEST * usual:
            ratio, times = min((_ratio_of(target, data) for _ in range(REPEATS)), key=lambda tried: tried[0])
            if ratio > LONGEST:
                reason = f"takes {ratio:.1f} times as long as the reference for each KiB, {len(data)} bytes"
                return times, Fault(target.name, data, reason)
    except Exception as error:  # noqa: BLE001  any other error than BadPacket is a fault
        return Times(0.0, 0.0), Fault(target.name, data, f"raises {error!r}")
    return times, None


def _ratio_of(target: Target, data: bytes) -> tuple[float, Times]:
    times = _times_of(target, data)
    return times.turn / reference(), times


def _times_of(target: Target, data: bytes) -> Times:
    longest, turns = 0.0, iter(target.turns(data))
    began = turn_began = time.thread_time()
    with suppress(BadPacket):
        for _ in turns:
            now = time.thread_time()
            longest, turn_began = max(longest, now - turn_began), now
    now = time.thread_time()
    size = max(1.0, len(data) / 1024)
    return Times(max(longest, now - turn_began) / size, (now - began) / size)


@dataclass(slots=True)
class Findings:
    """The results for a decoder. `turn` is in times of `reference`, `whole` in seconds, as in `Times`."""

    tried: int = 0
    turn: float = 0.0
    whole: float = 0.0
    fault: Fault | None = None


def fuzz(target: Target, seed: int, seconds: float, inputs: float = math.inf) -> Findings:
    """Try inputs for so long, or so many, until there is a fault."""
    chance, found = random.Random(f"{target.name} {seed}"), Findings()
    usual = min(reference() for _ in range(REPEATS))
    for sample in target.samples:
        try_input(target, sample, usual)  # the first use of a model takes longer
    end = time.monotonic() + seconds
    while found.tried < inputs and (found.tried % 100 or time.monotonic() < end):
        data = change(chance, target.samples)
        found.tried += 1
        times, found.fault = try_input(target, data, usual)
        if times.turn > found.turn * usual or times.whole > found.whole:
            again, _ = try_input(target, data, usual)
            found.turn = max(found.turn, min(times.turn, again.turn) / usual)
            found.whole = max(found.whole, min(times.whole, again.whole))
        if found.fault is not None:
            break
    return found
