"""The fuzzer covers each decoder, accepts the samples, repeats a seed, and finds the faults that it is there for."""

import ast
import random
from itertools import pairwise
from pathlib import Path
from sys import monitoring

import pytest

from pskkey.errors import BadPacket
from tests.fuzz.fuzzer import LONGEST, change, fuzz, reference, try_input
from tests.fuzz.targets import Target, in_one_turn, targets

PACKAGE = Path(__file__).parents[2] / "daemon" / "pskkey"
REACHED_THROUGH_OTHERS = {
    "open_untrusted": "its input passes an authentication first; tests/mcast/test_record.py has random records",
    "open_body_untrusted": "as open_untrusted",
}
"""Decoders that no target reaches, each with the reason."""


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_each_sample_is_accepted_and_a_few_changed_ones_show_no_fault(target: Target) -> None:
    for sample in target.samples:
        if target.name != "status":  # it has many required fields, and a sample of the schema is enough to begin with
            assert len(list(target.turns(sample))) > 0
    chance = random.Random(1)
    assert [
        fault for _ in range(50) if (fault := try_input(target, change(chance, target.samples), reference())[1])
    ] == []


def test_each_public_decoder_is_reached() -> None:
    reached: set[str] = set()
    names = {
        node.name: path
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_untrusted") and not node.name.startswith("_")
    }
    monitoring.use_tool_id(monitoring.PROFILER_ID, "reached")
    try:
        monitoring.register_callback(
            monitoring.PROFILER_ID, monitoring.events.PY_START, lambda code, _: reached.add(code.co_name)
        )
        monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.PY_START)
        for target in targets():
            for sample in target.samples:
                try_input(target, sample, reference())
    finally:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)
    assert set(names) - reached == REACHED_THROUGH_OTHERS.keys()


def test_a_seed_repeats_the_inputs() -> None:
    samples = targets()[0].samples
    first, second, other = (
        [change(chance, samples) for _ in range(20)] for chance in map(random.Random, ("1", "1", "2"))
    )
    assert first == second != other
    assert any(a != b for a, b in pairwise(first))


def _fails(data: bytes) -> None:
    if len(data) > 3 and data[0] == 0xFF:
        raise ValueError("not a BadPacket")
    raise BadPacket("no")


def _hangs(data: bytes) -> None:
    if data[:1] == b"\xff":
        for _ in range(round(2 * LONGEST)):
            reference()


@pytest.mark.parametrize(("decode", "reason"), [(_fails, "raises ValueError"), (_hangs, "takes ")])
def test_a_decoder_that_fails_or_takes_too_long_is_found(decode: object, reason: str) -> None:
    assert callable(decode)
    fault = fuzz(in_one_turn("broken", decode, (b"abcdef",)), 1, 30.0).fault
    assert fault is not None
    assert fault.reason.startswith(reason)
    assert fault.data[0] == 0xFF
