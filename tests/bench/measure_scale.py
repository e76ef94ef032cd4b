"""The costs of groups of several sizes beside their budgets, and how they grow with the number of nodes.

The scenarios of tests/lab are run without traffic, each with one group for all its runs; `power` and `idle` have a new
group for each. A budget is for the worst run, and that of the processor time for the median node. The growth is that of
the medians: a figure that must be linear may not grow faster, and one that must be constant may not be half as large
again at another size. All daemons share this machine, so do not run anything beside this program.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.bench.growth import fitted_exponent, is_within
from tests.bench.scale_rows import ROWS, Measured, Row
from tests.lab.command import Options, measure, run
from tests.lab.report import Report
from tests.lab.scenarios import SCENARIOS

SIZES: Final = (10, 50, 100)
LARGEST: Final = 250
MEMORY_EACH: Final = 45e6
"""Bytes of memory that a daemon needs."""
IDLE_SECONDS: Final = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 when a figure is over its budget or grows too fast, or a run failed."""
    parser = argparse.ArgumentParser(prog="tests/bench/scale", description=__doc__)
    parser.add_argument("--sizes", type=_sizes, help="numbers of nodes (10,50,100 and, if memory allows, 250)")
    parser.add_argument("--rows", type=_rows, default=tuple(ROWS), help=f"of: {','.join(ROWS)} (all)")
    parser.add_argument("--runs", type=int, default=5, help="how often each scenario is run (5)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("tests/bench/scale: network namespaces need root; run it with sudo", file=sys.stderr)
        return 4
    sizes = options.sizes or (*SIZES, *([LARGEST] if _free_memory() > LARGEST * MEMORY_EACH else []))
    reports: dict[tuple[str, int], dict[str, Any]] = {}
    for nodes in sizes:
        for scenario in dict.fromkeys(ROWS[name].scenario for name in options.rows):
            report = Report(scenario, nodes, options.runs, time.time_ns() % 1_000_000)
            if status := run("tests/bench/scale", measure(_options(scenario), report)):
                return status
            reports[scenario, nodes] = report.as_json()
    result = judge(options.rows, reports)
    print(json.dumps(result) if options.json else as_text(result, sizes))
    return 0 if result["is_good"] else 1


def judge(names: Sequence[str], reports: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rows with figures, budgets and growth. `reports` has them by scenario and number of nodes."""
    rows = {name: _judged(ROWS[name], reports) for name in names}
    failed = [
        f"{scenario}, {nodes} nodes: {text}"
        for (scenario, nodes), report in reports.items()
        for text in report["failed"]
    ]
    failed += [
        f"{scenario}, {nodes} nodes: there is no figure for {name}"
        for (scenario, nodes), report in reports.items()
        for name, row in rows.items()
        if ROWS[name].scenario == scenario and not report["failed"] and str(nodes) not in row["median"]
    ]
    is_good = not failed and all(row["grows_as_allowed"] and all(row["met"].values()) for row in rows.values())
    return {"schema": 1, "rows": rows, "failed": failed, "is_good": is_good}


def _judged(row: Row, reports: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any]:
    figures: dict[int, Measured] = {}
    for (scenario, nodes), report in reports.items():
        if scenario == row.scenario and (measured := row.measured(report)) is not None:
            figures[nodes] = measured
    medians = {nodes: median for nodes, (median, _) in figures.items()}
    budgets = {} if row.budget is None else {nodes: row.budget(nodes) for nodes in figures}
    return {
        "title": row.title,
        "unit": row.unit,
        "median": {str(nodes): median for nodes, median in medians.items()},
        "worst": {str(nodes): worst for nodes, (_, worst) in figures.items()},
        "budget": {str(nodes): budget for nodes, budget in budgets.items()},
        "met": {str(n): figures[n][0 if row.by_median else 1] <= budget for n, budget in budgets.items()},
        "exponent": fitted_exponent(medians),
        "growth": row.growth,
        "grows_as_allowed": row.growth is None or is_within(medians, row.growth),
    }


def as_text(result: Mapping[str, Any], sizes: Sequence[int]) -> str:
    """Return the result as a table."""
    lines = [
        f"{'median; worst (budget, ! = missed)':<46}" + "".join(f"{f'{n} nodes':>24}" for n in sizes) + "  grows as"
    ]
    for row in result["rows"].values():
        cells = "".join(f"{_cell(row, str(nodes)):>24}" for nodes in sizes)
        title = f"{row['title']}, {row['unit']}" if row["unit"] else row["title"]
        lines.append(f"{title:<46}{cells}  {_growth(row)}")
    lines += result["failed"]
    lines.append(
        "all figures within their budgets"
        if result["is_good"]
        else "a figure is over its budget or grows too fast, or a run failed"
    )
    return "\n".join(lines)


def _cell(row: Mapping[str, Any], nodes: str) -> str:
    if nodes not in row["median"]:
        return "-"
    budget = ""
    if nodes in row["budget"]:
        budget = f" ({row['budget'][nodes]:.3g}{'' if row['met'][nodes] else '!'})"
    return f"{row['median'][nodes]:.3g}; {row['worst'][nodes]:.3g}{budget}"


def _growth(row: Mapping[str, Any]) -> str:
    if row["exponent"] is None:
        return ""
    allowed = "" if row["growth"] is None else f" ({row['growth']}{'' if row['grows_as_allowed'] else '!'})"
    return f"n^{row['exponent']:.2f}{allowed}"


def _options(scenario: str) -> Options:
    chosen = SCENARIOS[scenario]
    return Options(chosen, IDLE_SECONDS, has_traffic=False, keeps_group=chosen.may_keep_group, speed=None)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if not all(3 <= size <= LARGEST for size in sizes):
        raise argparse.ArgumentTypeError(f"each from 3 to {LARGEST}")
    return sizes


def _rows(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}")
    return names


def _free_memory() -> float:
    with open("/proc/meminfo") as table:  # noqa: PTH123
        kibibytes = next(line.split()[1] for line in table if line.startswith("MemAvailable:"))
    return 1024 * float(kibibytes)


if __name__ == "__main__":
    sys.exit(main())
