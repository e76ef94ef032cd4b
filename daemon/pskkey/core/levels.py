"""Protocol levels: which nodes can be in one group, although their versions differ.

1. A node speaks all levels of one range (`model.Levels`). A session uses the highest level that both ends speak.
2. A group has a range too: the levels that all members speak. A joiner must speak one of them. Else one of the members
   and the joiner could not follow each other as master. A node may be upgraded, but a session keeps its range.
3. The *level of a group* is the highest one that all members speak, and all nodes that may join again soon, but always
   one that all members speak. A node whose range is not known counts as level 1. A feature that needs all members
   begins at such a level.
4. Each node announces its range, and a master that of its group. Two masters compare the ranges of their groups before
   a merge. Nodes without a level in common do not connect, and show each other as a condition.
5. An advert alone keeps nobody from becoming master: a holder of the PSK can invent one. So nodes without a level in
   common with a group are a group of their own.
"""

from collections.abc import Iterable, Set
from dataclasses import replace
from typing import Final

from pskkey.core.settings import Settings
from pskkey.model import Levels, Member

_UNKNOWN: Final = Levels(1, 1)
"""The levels of a node that only the persisted state names."""


class GroupLevels:
    """The protocol levels of the group of this master."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ranges: dict[str, Levels] = {}
        """By node id, for the members and the nodes that were members."""
        self._range = settings.me.speaks

    @property
    def as_group(self) -> Member:
        """Return this node with the range of its group, as a master presents itself to nodes outside."""
        return replace(self._settings.me, speaks=self._range)

    def begin(self, last: Iterable[Member]) -> None:
        """Begin as master, or end. `last` are the members of the last group."""
        self._ranges, self._range = {member.id: member.speaks for member in last}, self._settings.me.speaks

    def find_level(self, joined: Iterable[Member], awaited: Set[str]) -> int:
        """Return the level of the group. `awaited`: the ids of the nodes that may join again soon."""
        present = {member.id: member.speaks for member in (self._settings.me, *joined)}
        self._ranges = {node: self._ranges.get(node, _UNKNOWN) for node in awaited} | present
        common = min(speaks.highest for speaks in self._ranges.values())
        return max(common, *(speaks.lowest for speaks in present.values()))

    def publish(self, joined: Iterable[Member]) -> None:
        """Present this node with the levels that it and all these nodes speak. They were accepted beside each other."""
        ranges = [member.speaks for member in (self._settings.me, *joined)]
        self._range = Levels(max(each.lowest for each in ranges), min(each.highest for each in ranges))


def find_stranger(joiner: Member, members: Iterable[Member]) -> Member | None:
    """Return a member that has no level in common with a joiner, None if there is none."""
    return next((m for m in members if m.id != joiner.id and m.speaks.common(joiner.speaks) is None), None)


def explain(one: Member, other: Member) -> str:
    """Return the sentence for two nodes that have no level in common."""
    return f"{_describe(one)}, but {_describe(other)}: there is no common level"


def _describe(node: Member) -> str:
    version = f" (pskkey {node.version})" if node.version else ""
    return f"{node.name}{version} speaks {node.speaks}"
