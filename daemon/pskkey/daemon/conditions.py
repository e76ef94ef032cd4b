"""The conditions of the daemon: each has a beginning and an end in the journal, and a place in the status.

The core, the adapters and the daemon find conditions, always all that are present. This list notes when each began. A
condition of the group is listed after it has lasted for SETTLES: a node that starts finds its peers one by one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pskkey.model import Condition, ConditionKind

SETTLES: Final = 2.0
"""Seconds."""

_SETTLING: Final = frozenset(
    {
        ConditionKind.MASTER_UNREACHABLE,
        ConditionKind.MEMBER_UNREACHABLE,
        ConditionKind.TIMES_DIFFER,
        ConditionKind.NO_COMMON_LEVEL,
        ConditionKind.NOBODY_ELIGIBLE,
    }
)

type Report = Callable[[Condition, bool], None]
"""Gets a condition, and whether it begins (else it ends)."""


@dataclass(slots=True)
class _Present:
    condition: Condition
    since: float
    is_listed: bool = False


class ConditionList:
    """The present conditions. `clock` returns seconds that only rise. `report` is called at each beginning and end."""

    def __init__(self, report: Report, clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._present: dict[tuple[ConditionKind, str | None], _Present] = {}

    def update(self, found: Iterable[Condition]) -> None:
        """Replace the present conditions by those that were found now."""
        now = self._clock()
        before, self._present = self._present, {}
        for condition in found:
            key = (condition.kind, condition.peer)
            present = self._present[key] = before.pop(key, _Present(condition, now))
            present.condition = condition
            if not present.is_listed and (condition.kind not in _SETTLING or now >= present.since + SETTLES):
                present.is_listed = True
                self._report(condition, True)
        for ended in before.values():
            if ended.is_listed:
                self._report(ended.condition, False)

    def rows(self) -> list[dict[str, Any]]:
        """Return the listed conditions for the status."""
        now = self._clock()
        return [_row(one.condition, now - one.since) for one in self._present.values() if one.is_listed]


def sentence(text: str, remedy: str) -> str:
    """Return a condition as one sentence: the fault, then the next step."""
    return f"{text}; {remedy}"


def _row(condition: Condition, seconds: float) -> dict[str, Any]:
    return {
        "kind": str(condition.kind),
        "peer": condition.peer,
        "address": condition.address,
        "text": condition.text,
        "remedy": condition.remedy,
        "since_s": round(seconds, 1),
    }
