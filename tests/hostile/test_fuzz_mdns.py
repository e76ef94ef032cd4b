"""A short run of the fuzzer with a fixed and with a random seed; `fuzz_mdns` runs it for longer."""

import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.hostile.mdns_fuzzer import Datagrams, fuzz
from tests.system.heard import Listener
from tests.system.loopback import Loopback

pytestmark = pytest.mark.root

OBJECTS = 5000
"""Objects that may be kept: known instances, sources, and pending answers."""


@pytest.fixture
async def loopback() -> AsyncIterator[Loopback]:
    with tempfile.TemporaryDirectory(prefix="psk-") as directory:
        yield Loopback(Path(directory))


@pytest.mark.parametrize("seed", [1, None], ids=["seed 1", "any seed"])
async def test_random_datagrams_change_only_counters(loopback: Loopback, seed: int | None) -> None:
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    result = await fuzz(loopback, seed, seconds=20, datagrams=5000)
    print(f"seed {seed}: {result}")
    assert result.faults == []
    assert result.sent >= 1000
    assert result.counters["mdns_dropped"] > 100
    assert result.counters["adverts_rejected"] > 100
    assert result.objects_kept < OBJECTS


def test_a_seed_repeats_the_datagrams(loopback: Loopback) -> None:
    """The sizes are equal; the bytes differ by the ids and keys of the group, which is new in each run."""
    target = Listener(loopback, "eth0", "v4")
    sizes = []
    for _ in range(2):
        datagrams = Datagrams(random.Random(7), target)
        sizes.append([len(datagrams.make()) for _ in range(500)])
    assert sizes[0] == sizes[1]
