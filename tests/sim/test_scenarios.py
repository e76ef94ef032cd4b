"""Each scenario repeats its transcript. `tests/sim/run --rewrite-transcripts` writes them again, on purpose only."""

import pytest

from tests.sim.scenarios import SCENARIOS, play, transcript_of


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_repeats_its_transcript(name: str) -> None:
    assert play(name).splitlines() == transcript_of(name).read_text().splitlines()


def test_each_transcript_has_a_scenario() -> None:
    kept = {path.stem for path in transcript_of("any").parent.glob("*.txt")}
    assert kept == set(SCENARIOS)
