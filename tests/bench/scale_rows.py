"""The rows of the scale report: what is measured of which scenario, its budget, and how fast it may grow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.growth import Growth

type Measured = tuple[float, float]
"""The median and the worst."""


@dataclass(frozen=True, slots=True)
class Row:
    """`measured` takes the figure from the report of a scenario (`Report.as_json`); None: the report has none.

    `budget` is the greatest allowed figure by the number of nodes; None: there is none. It is for the worst, or with
    `by_median` for the median. `growth` is that of the median; None: it is not judged.
    """

    title: str
    unit: str
    scenario: str
    measured: Callable[[Mapping[str, Any]], Measured | None]
    budget: Callable[[int], float] | None = None
    growth: Growth | None = None
    by_median: bool = False


def _spread(name: str, factor: float = 1.0) -> Callable[[Mapping[str, Any]], Measured | None]:
    def measured(report: Mapping[str, Any]) -> Measured | None:
        spread = report.get(name)
        if spread is None or spread["p50"] is None:
            return None
        return factor * spread["p50"], factor * spread["max"]

    return measured


def _of_spans(name: str) -> Callable[[Mapping[str, Any]], Measured | None]:
    def measured(report: Mapping[str, Any]) -> Measured | None:
        values = sorted(span[name] for span in report["spans"])
        return (float(values[len(values) // 2]), float(values[-1])) if values else None

    return measured


def _proportional(beyond: int, limit: float) -> Callable[[int], float]:
    """Return a budget that is `limit` up to `beyond` nodes, and then grows with their number."""
    return lambda nodes: limit * max(1.0, nodes / beyond)


ROWS: Final[Mapping[str, Row]] = {
    "failover": Row(
        "failover after SIGKILL", "s", "kill", _spread("converged_ms", 1e-3), _proportional(50, 0.5), Growth.LINEAR
    ),
    "terms": Row("new terms in a failover", "", "kill", _of_spans("terms"), lambda _: 1),
    "masters": Row("nodes that became master in it", "", "kill", _of_spans("masterships"), lambda _: 1),
    "abandoned": Row("handshakes abandoned in it", "", "kill", _of_spans("handshakes_abandoned"), lambda _: 0),
    "processor": Row(
        "processor time per survivor", "ms", "kill", _spread("processor_ms"), lambda _: 15, Growth.CONSTANT, True
    ),
    "packets": Row(
        "packets received per survivor", "", "kill", _spread("packets_received"), growth=Growth.LINEAR, by_median=True
    ),
    "terminate": Row(
        "SIGTERM of the master, until together",
        "s",
        "terminate",
        _spread("converged_ms", 1e-3),
        _proportional(50, 0.3),
        Growth.LINEAR,
    ),
    "member": Row(
        "bytes of the master, a member comes or goes",
        "kB",
        "member",
        # The scenario has one that goes and one that comes.
        _spread("bytes_of_master", 1e-3 / 2),
        lambda nodes: 0.3 * nodes,
        Growth.LINEAR,
    ),
    "idle": Row(
        "idle master, share of a core", "%", "idle", _spread("master_percent"), _proportional(100, 1), Growth.LINEAR
    ),
    "memory": Row(
        "memory of the master (RSS)",
        "MB",
        "idle",
        _spread("master_megabytes"),
        lambda nodes: 30 + 0.065536 * nodes,
        Growth.LINEAR,
    ),
    "rekey": Row("rekey", "s", "rekey", _spread("converged_ms", 1e-3), lambda _: 0.3, Growth.LINEAR),
    "power": Row(
        "power: one group, after loading", "s", "power", _spread("beyond_loading_ms", 1e-3), lambda _: 5, Growth.LINEAR
    ),
}
