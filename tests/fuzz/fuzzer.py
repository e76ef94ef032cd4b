"""Feeds changed bytes to decoders. A seed repeats the bytes."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pskkey.errors import BadPacket
from tests.fuzz.targets import Target

LONGEST: Final = 0.05
"""Seconds of processor time that one input may cost: as long as the event loop may be away."""

INTERESTING: Final = (0x00, 0x01, 0x7F, 0x80, 0xC0, 0xFE, 0xFF, 0x22, 0x5B, 0x7B)
MOST_CHANGES: Final = 8
LARGEST: Final = 16 * 1024
"""Bytes of an input."""


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


def try_input(target: Target, data: bytes) -> Fault | None:
    """Decode `data` and return the fault that shows, if one does."""
    began = time.thread_time()
    try:
        target.decode(data)
    except BadPacket:
        pass
    except Exception as error:  # noqa: BLE001  any other error is a fault
        return Fault(target.name, data, f"raises {error!r}")
    # A pause of the garbage collector does not repeat: it is not the decoder's.
    if time.thread_time() - began > LONGEST and (took := _time_of(target, data)) > LONGEST:
        return Fault(target.name, data, f"takes {1000 * took:.0f} ms of processor time")
    return None


def _time_of(target: Target, data: bytes) -> float:
    began = time.thread_time()
    with suppress(BadPacket):
        target.decode(data)
    return time.thread_time() - began


def fuzz(target: Target, seed: int, seconds: float) -> tuple[int, Fault | None]:
    """Try inputs for so long. Return how many there were, and the first fault."""
    chance = random.Random(f"{target.name} {seed}")
    end, tried = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(100):
            tried += 1
            if (fault := try_input(target, change(chance, target.samples))) is not None:
                return tried, fault
    return tried, None
