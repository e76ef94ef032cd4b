"""The results of the runs of a scenario, as JSON and as text."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.lab.costs import Span
from tests.lab.losses import Losses
from tests.lab.trial import Trial

_WINDOWS_SHOWN: Final = 40


@dataclass(slots=True)
class Report:
    """`seconds` has one entry for each measured time, `failed` a sentence for each run that was not completed.

    The times and costs of a run that fails count too, as far as it came; its losses do not.
    """

    scenario: str
    nodes: int
    runs: int
    seed: int
    speed: int | None = None
    """The share of one core that each daemon had, in percent; None: all of it."""
    seconds: list[float] = field(default_factory=list)
    figures: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    amounts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    spans: list[Span] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)
    dropped_by_network: int = 0
    two_masters_ms: float = 0.0

    async def enter(self, trial: Trial) -> str | None:
        """Add the results of a completed run; return its losses as text, None when there are none. Raises Failed."""
        found = await trial.conclude()
        self.enter_figures(trial)
        self.losses.add(found.losses, trial.number)
        self.dropped_by_network += found.dropped_by_network
        self.two_masters_ms = round(self.two_masters_ms + found.two_masters_ms, 1)
        lost = found.losses.lost - found.dropped_by_network
        if not (lost or found.losses.muted or found.two_masters_ms):
            return None
        return f"{lost} lost, {found.losses.muted} muted, {found.two_masters_ms} ms with two masters"

    def enter_figures(self, trial: Trial) -> None:
        """Add what was measured before the end of the run, which may be a failure."""
        self.seconds += trial.measured
        for name, seconds in trial.figures.items():
            self.figures[name] += seconds
        for name, values in trial.amounts.items():
            self.amounts[name] += values
        self.spans += [span for span in trial.spans if span.until]

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs. Times are in milliseconds; None: nothing was measured.

        `Losses` explains the figures of the traffic. `lost_beyond_network`: datagrams lost, without those that the
        network dropped on purpose. `Span` explains those of the cost: `spans` has each event, and the names of its
        parts are those of the spread over all nodes and events, of the highest number (terms, masters), or of the sum
        (handshakes).
        """
        return {
            "scenario": self.scenario,
            "nodes": self.nodes,
            "runs": self.runs,
            "seed": self.seed,
            "speed": self.speed,
            "converged_ms": spread(self.seconds),
            **{f"{name}_ms": spread(seconds) for name, seconds in self.figures.items()},
            **{name: _spread(values, 3) for name, values in self.amounts.items()},
            **self._costs(),
            **asdict(self.losses),
            "dropped_by_network": self.dropped_by_network,
            "lost_beyond_network": self.losses.lost - self.dropped_by_network,
            "two_masters_ms": self.two_masters_ms,
            "failures": len(self.failed),
            "failed": self.failed,
            "spans": [span.as_json() for span in self.spans],
        }

    def _costs(self) -> dict[str, Any]:
        spans = self.spans
        if not spans:
            return {}
        return {
            "processor_ms": _spread([value for span in spans for value in span.processor_ms.values()]),
            "packets_received": _spread([value for span in spans for value in span.packets_received.values()]),
            "bytes_of_master": _spread([s.bytes_of_master for s in spans if s.bytes_of_master is not None]),
            "terms": max(span.terms for span in spans),
            "masterships": max(span.masterships for span in spans),
            "masters_at_once": max(span.masters_at_once for span in spans),
            "handshakes_abandoned": sum(span.handshakes_abandoned for span in spans),
        }

    def as_text(self) -> str:
        """Return the report as a small table."""
        report = self.as_json()
        share = "" if self.speed is None else f", each with {self.speed} % of a core"
        lines = [f"{self.scenario}: {self.nodes} nodes, {self.runs} runs, seed {self.seed}{share}"]
        unused = set() if self.losses.sent else {name for name, value in asdict(self.losses).items() if not value}
        for name, value in report.items():
            if name in unused:
                continue
            match value:
                case {"p50": float()}:
                    unit = " ms" if name.endswith("_ms") else ""
                    digits = 2 if name in self.amounts else 0
                    lines.append(f"  {name:>24}  {', '.join(f'{key} {value[key]:.{digits}f}{unit}' for key in value)}")
                case int() | float() if name not in ("nodes", "runs", "seed", "speed"):
                    lines.append(f"  {name:>24}  {value:g}")
        windows = (*self.losses.lost_windows, *self.losses.muted_windows)
        lines += [f"    {window}" for window in windows[:_WINDOWS_SHOWN]]
        lines += [f"    and {len(windows) - _WINDOWS_SHOWN} more"] if len(windows) > _WINDOWS_SHOWN else []
        lines += [f"    {sentence}" for sentence in self.failed]
        return "\n".join(lines)


def spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return the median, the 99th percentile and the longest of times, in milliseconds."""
    return _spread([1000 * second for second in seconds])


def percentile(ordered: Sequence[float], percent: int, digits: int = 1) -> float | None:
    """Return a percentile by the nearest rank: the smallest value that at least `percent` % do not exceed."""
    if not ordered:
        return None
    return round(float(ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]), digits)


def _spread(values: Iterable[float], digits: int = 1) -> dict[str, float | None]:
    ordered = sorted(values)
    percents = {"p50": 50, "p99": 99, "max": 100}
    return {name: percentile(ordered, percent, digits) for name, percent in percents.items()}
