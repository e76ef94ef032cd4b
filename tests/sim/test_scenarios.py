"""The scenarios go as their transcripts say; `tests/sim/run --rewrite-transcripts` keeps them anew, on purpose only."""

import pytest

from tests.sim.scenarios import SCENARIOS, play, transcript_of


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_goes_as_its_transcript_says(name: str) -> None:
    assert play(name).splitlines() == transcript_of(name).read_text().splitlines()


def test_there_is_no_transcript_without_a_scenario() -> None:
    kept = {path.stem for path in transcript_of("any").parent.glob("*.txt")}
    assert kept == set(SCENARIOS)
