"""The results of the runs of a scenario, as JSON and as text."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.lab.losses import Losses
from tests.lab.trial import Trial

_WINDOWS_SHOWN: Final = 40


@dataclass(slots=True)
class Report:
    """`seconds` has one entry for each measured time, `failed` a sentence for each run that was not completed."""

    scenario: str
    nodes: int
    runs: int
    seed: int
    seconds: list[float] = field(default_factory=list)
    figures: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)
    dropped_by_network: int = 0
    two_masters_ms: float = 0.0

    async def enter(self, trial: Trial) -> str | None:
        """Add the results of a completed run; return its losses as text, None when there are none. Raises Failed."""
        found = await trial.conclude()
        self.seconds += trial.measured
        for name, seconds in trial.figures.items():
            self.figures[name] += seconds
        self.losses.add(found.losses, trial.number)
        self.dropped_by_network += found.dropped_by_network
        self.two_masters_ms = round(self.two_masters_ms + found.two_masters_ms, 1)
        lost = found.losses.lost - found.dropped_by_network
        if not (lost or found.losses.muted or found.two_masters_ms):
            return None
        return f"{lost} lost, {found.losses.muted} muted, {found.two_masters_ms} ms with two masters"

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs. Times are in milliseconds; None: nothing was measured.

        `Losses` explains the figures of the traffic. `lost_beyond_network`: datagrams lost, without those that the
        network dropped on purpose.
        """
        return {
            "scenario": self.scenario,
            "nodes": self.nodes,
            "runs": self.runs,
            "seed": self.seed,
            "converged_ms": spread(self.seconds),
            **{f"{name}_ms": spread(seconds) for name, seconds in self.figures.items()},
            **asdict(self.losses),
            "dropped_by_network": self.dropped_by_network,
            "lost_beyond_network": self.losses.lost - self.dropped_by_network,
            "two_masters_ms": self.two_masters_ms,
            "failures": len(self.failed),
            "failed": self.failed,
        }

    def as_text(self) -> str:
        """Return the report as a small table."""
        report = self.as_json()
        lines = [f"{self.scenario}: {self.nodes} nodes, {self.runs} runs, seed {self.seed}"]
        for name, value in report.items():
            match value:
                case {"p50": float()}:
                    lines.append(f"  {name:>20}  {', '.join(f'{key} {value[key]:.0f} ms' for key in value)}")
                case int() | float() if name not in ("nodes", "runs", "seed"):
                    lines.append(f"  {name:>20}  {value:g}")
        windows = (*self.losses.lost_windows, *self.losses.muted_windows)
        lines += [f"    {window}" for window in windows[:_WINDOWS_SHOWN]]
        lines += [f"    and {len(windows) - _WINDOWS_SHOWN} more"] if len(windows) > _WINDOWS_SHOWN else []
        lines += [f"    {sentence}" for sentence in self.failed]
        return "\n".join(lines)


def spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """Return the median, the 99th percentile and the longest of times, in milliseconds."""
    ordered = sorted(1000 * second for second in seconds)
    return {"p50": percentile(ordered, 50), "p99": percentile(ordered, 99), "max": percentile(ordered, 100)}


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return a percentile by the nearest rank: the smallest value that at least `percent` % do not exceed."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)], 1)
