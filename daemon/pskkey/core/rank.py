"""The total orders of the election, and nothing else.

Each is a sort key, smallest first. The node id ends each key, so no two nodes have the same key, and two nodes with the
same facts come to the same result.
"""

from collections.abc import Iterable
from typing import Protocol

from pskkey.model import Member


class Candidate(Protocol):
    """The attributes of a node that Member and Advert share."""

    @property
    def id(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def eligible(self) -> bool: ...


def candidate_order(node: Candidate) -> tuple[bool, int, str]:
    """Return the sort key for the next master: eligible first, then higher priority, then lower id."""
    return (not node.eligible, -node.priority, node.id)


def merge_order(members: int, priority: int, node_id: str) -> tuple[int, int, str]:
    """Return the sort key for the master that stays: more members served, then higher priority, then lower id."""
    return (-members, -priority, node_id)


def succession(members: Iterable[Member], master: str) -> tuple[str, ...]:
    """Return the ids of the eligible members without `master`, in the order in which they take over."""
    return tuple(m.id for m in sorted(members, key=candidate_order) if m.eligible and m.id != master)
