"""Who is better: the total orders of the election, and nothing else.

Each is a sort key, smallest first, over values that no two nodes share whole (the id ends each of them), so that any
two nodes that see the same facts come to the same answer.
"""

from collections.abc import Iterable
from typing import Protocol

from pskkey.model import Member


class Candidate(Protocol):
    """What both a Member and an Advert tell of a node."""

    @property
    def id(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def eligible(self) -> bool: ...


def candidate_order(node: Candidate) -> tuple[bool, int, str]:
    """Sort key of who should take over: eligible first, then higher priority, then lower id."""
    return (not node.eligible, -node.priority, node.id)


def merge_order(members: int, priority: int, node_id: str) -> tuple[int, int, str]:
    """Sort key of which of two masters stays: more members served, then higher priority, then lower id."""
    return (-members, -priority, node_id)


def succession(members: Iterable[Member], master: str) -> tuple[str, ...]:
    """Return the ids of the eligible members but the master's, in the order in which they would take over."""
    return tuple(m.id for m in sorted(members, key=candidate_order) if m.eligible and m.id != master)
