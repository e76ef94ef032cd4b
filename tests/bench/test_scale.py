"""The scale report finds a cost that grows too fast, and measures real groups."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.bench.growth import Growth, fitted_exponent, is_within
from tests.bench.measure_scale import as_text, judge

BENCH = Path(__file__).parent / "scale"
SIZES = (10, 50, 100)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_exponent_of_a_power_is_found(exponent: float) -> None:
    assert fitted_exponent({n: 7 * n**exponent for n in SIZES}) == pytest.approx(exponent)


def test_exponent_needs_two_figures_above_zero() -> None:
    assert fitted_exponent({10: 3.0}) is None
    assert fitted_exponent({10: 0.0, 50: 3.0}) is None
    assert is_within({10: 0.0, 50: 0.0}, Growth.LINEAR)


def test_growth_with_the_square_is_too_fast_and_linear_growth_is_not() -> None:
    linear = {n: 30 + 0.5 * n for n in SIZES}
    square = {n: 85e3 * (n / 10) ** 2 for n in SIZES}
    assert is_within(linear, Growth.LINEAR)
    assert not is_within(square, Growth.LINEAR)


def test_constant_figure_may_not_grow_by_more_than_half() -> None:
    assert is_within({10: 10.0, 50: 14.0, 100: 15.0}, Growth.CONSTANT)
    assert not is_within({10: 10.0, 50: 16.0}, Growth.CONSTANT)
    assert not is_within({10: 15.0, 50: 8.0, 100: 14.0}, Growth.CONSTANT)


def report(p50: float, worst: float, failed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the parts of a laboratory's report that the row `member` needs."""
    return {"bytes_of_master": {"p50": p50, "p99": worst, "max": worst}, "spans": [], "failed": list(failed)}


def test_row_has_its_figures_beside_its_budget() -> None:
    result = judge(("member",), {("member", 10): report(5000, 5800), ("member", 100): report(50_000, 66_000)})
    row = result["rows"]["member"]
    assert row["median"] == {"10": 2.5, "100": 25.0}
    assert row["budget"] == {"10": 3.0, "100": 30.0}
    assert row["met"] == {"10": True, "100": False}
    assert row["grows_as_allowed"]
    assert not result["is_good"]
    assert "25; 33 (30!)" in as_text(result, (10, 100))


def test_growth_above_linear_fails_within_the_budget() -> None:
    result = judge(("member",), {("member", 10): report(10, 10), ("member", 100): report(1000, 1000)})
    assert all(result["rows"]["member"]["met"].values())
    assert not result["is_good"]
    assert "n^2.00 (linear!)" in as_text(result, (10, 100))


def test_row_without_a_figure_fails_the_report() -> None:
    empty: dict[str, Any] = {"spans": [], "failed": []}
    result = judge(("member",), {("member", 10): report(10, 10), ("member", 50): empty})
    assert result["failed"] == ["member, 50 nodes: there is no figure for member"]
    assert not result["is_good"]


def test_failed_run_fails_the_report() -> None:
    reports = {("member", 10): report(10, 10)}
    assert judge(("member",), reports)["is_good"]
    reports["member", 10] = report(10, 10, ("run 1: not one group",))
    assert judge(("member",), reports)["failed"] == ["member, 10 nodes: run 1: not one group"]
    assert not judge(("member",), reports)["is_good"]


@pytest.mark.root
@pytest.mark.slow
def test_real_groups_are_measured() -> None:
    """This test does not judge the figures, because they depend on the other work of the machine."""
    done = subprocess.run(
        [BENCH, "--sizes", "3,5", "--rows", "processor,idle", "--runs", "1", "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["failed"] == []
    for name in ("processor", "idle"):
        assert set(result["rows"][name]["median"]) == {"3", "5"}
        assert all(figure > 0 for figure in result["rows"][name]["median"].values())
    assert done.returncode == (0 if result["is_good"] else 1)
