"""The results of the attacks: judged by their bounds, as JSON, and as a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.hostile.attacks import ATTACKS, Bounds
from tests.hostile.gauges import Cost
from tests.hostile.siege import Findings

TIMES: Final = ("boot", "newcomer", "keys", "rekey", "failover")
HEADINGS: Final = ("attack", *TIMES, "away ms", "+MiB", "lines/min", "CPU s", "pkt/s", "kB/s", "sent", "kB/s", "result")


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one attack. Costs are those of the worst daemon; memory and lines those beyond a calm group."""

    attack: str
    times: Mapping[str, float | None]
    loop_away_ms: float
    loop_by: str
    memory_mib: float
    lines_a_minute: float
    cpu_s: float
    packets_a_second: float
    bytes_a_second: float
    attack_packets_a_second: float
    attack_bytes_a_second: float
    attack_cpu_s: float
    stalled_ms: float
    faults: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Return the row for programs; times in seconds."""
        return asdict(self)


def row(name: str, found: Findings, calm: Findings) -> Row:
    """Judge the findings of an attack."""
    costs = list(found.costs.values())
    most_calm_mib = max((cost.peak_mib for cost in calm.costs.values()), default=0.0)
    most_calm_lines = max((cost.lines for cost in calm.costs.values()), default=0)
    away = max(costs, key=lambda cost: cost.loop_away_ms, default=Cost(0.0, "nothing", 0.0, 0.0, 0, 0.0))
    made = Row(
        attack=name,
        times={time: getattr(found, time) for time in TIMES},
        loop_away_ms=away.loop_away_ms,
        loop_by=away.loop_by,
        memory_mib=round(max((cost.peak_mib for cost in costs), default=0.0) - most_calm_mib, 1),
        lines_a_minute=round(max((_lines_a_minute(cost, most_calm_lines) for cost in costs), default=0.0), 1),
        cpu_s=round(max((cost.cpu_s for cost in costs), default=0.0), 1),
        packets_a_second=round(found.packets_a_second, 1),
        bytes_a_second=round(found.bytes_a_second),
        attack_packets_a_second=round(found.sent.packets / max(found.sent.seconds, 1.0), 1),
        attack_bytes_a_second=round(found.sent.bytes / max(found.sent.seconds, 1.0)),
        attack_cpu_s=found.sent.cpu_s,
        stalled_ms=found.stalled_ms,
        faults=(),
    )
    return Row(**{**asdict(made), "faults": [*faults(made, ATTACKS[name].bounds), *found.troubles]})


def faults(figures: Row, bounds: Bounds) -> Iterator[str]:
    """Yield a sentence for each bound that was not kept.

    The time for which this machine itself stood still does not count as absence of a daemon's loop.
    """
    for time, seconds in figures.times.items():
        bound = getattr(bounds, time)
        if seconds is None:
            yield f"{time}: never"
        elif seconds > bound:
            yield f"{time}: {seconds:.2f} s, at most {bound:g}"
    if figures.loop_away_ms > bounds.loop_away_ms + figures.stalled_ms:
        stalled = f"the machine stood still for {figures.stalled_ms:.0f}"
        yield f"loop away for {figures.loop_away_ms:.0f} ms, at most {bounds.loop_away_ms:g}; {stalled}"
    if figures.memory_mib > bounds.memory_mib:
        yield f"memory + {figures.memory_mib:g} MiB, at most {bounds.memory_mib:g}"
    if figures.lines_a_minute > bounds.lines_a_minute:
        yield f"{figures.lines_a_minute:g} lines a minute, at most {bounds.lines_a_minute:g}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows for people, and below them the faults."""
    cells = [HEADINGS, *(_cells(one) for one in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines += [f"{one.attack}: {fault}" for one in rows for fault in one.faults]
    return "\n".join(lines)


def _cells(one: Row) -> tuple[str, ...]:
    return (
        one.attack,
        *("never" if seconds is None else f"{seconds:.2f}" for seconds in one.times.values()),
        f"{one.loop_away_ms:.0f}",
        f"{one.memory_mib:.0f}",
        f"{one.lines_a_minute:.0f}",
        f"{one.cpu_s:.1f}",
        f"{one.packets_a_second:.0f}",
        f"{one.bytes_a_second / 1000:.0f}",
        f"{one.attack_packets_a_second:.0f}/s",
        f"{one.attack_bytes_a_second / 1000:.0f}",
        f"{len(one.faults)} faults" if one.faults else "kept",
    )


def _lines_a_minute(cost: Cost, calm_lines: int) -> float:
    # In a time below a minute all lines count as the lines of a minute: the first seconds may use up its whole budget.
    return max(0, cost.lines - calm_lines) * 60 / max(cost.seconds, 60.0)
