"""What the runs of a scenario have shown, as JSON and for people."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Report:
    """`seconds` has one entry for each run that came to its end, `failed` a sentence for each that did not."""

    scenario: str
    nodes: int
    runs: int
    seed: int
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the report as programs read it; times are in milliseconds, None when no run came to its end."""
        measured = sorted(1000 * second for second in self.seconds)
        return {
            "scenario": self.scenario,
            "nodes": self.nodes,
            "runs": self.runs,
            "seed": self.seed,
            "converged_ms": {
                "p50": percentile(measured, 50),
                "p99": percentile(measured, 99),
                "max": percentile(measured, 100),
            },
            "failures": len(self.failed),
            "failed": self.failed,
        }

    def as_text(self) -> str:
        """Return the report as a small table."""
        told = self.as_json()
        lines = [f"{self.scenario}: {self.nodes} nodes, {self.runs} runs, seed {self.seed}"]
        for name, value in told["converged_ms"].items():
            lines.append(f"  {name:>8}  {'-' if value is None else f'{value:.0f} ms'}")
        lines.append(f"  {'failures':>8}  {len(self.failed)}")
        lines += [f"    {sentence}" for sentence in self.failed]
        return "\n".join(lines)


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Return the smallest of the values that is not below `percent` percent of them: the nearest rank."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)], 1)
