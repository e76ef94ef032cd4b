"""Protocol levels: which nodes can be in one group, although their versions differ.

1. A node speaks all levels of one range (`model.Levels`). A session uses the highest level that both ends speak.
2. The *level of a group* is the highest one that all members speak. A level begins features that need all
   members.
3. A master accepts a joiner only if all members and the joiner have a level in common. Else one of them could not
   follow another one as master.
4. Each node announces its levels. A node without a level in common with a master does not connect to it, and is not
   master beside it. Both show the other one as a condition.
"""

from collections.abc import Iterable

from pskkey.model import Member


def level_of(members: Iterable[Member]) -> int:
    """Return the level of a group with these members, at least one."""
    return min(member.speaks.highest for member in members)


def find_stranger(joiner: Member, members: Iterable[Member]) -> Member | None:
    """Return a member that has no level in common with a joiner, None if there is none."""
    return next((member for member in members if member.speaks.common(joiner.speaks) is None), None)


def explain(one: Member, other: Member) -> str:
    """Return the sentence for two nodes that have no level in common."""
    return f"{_describe(one)}, but {_describe(other)}: there is no common level"


def _describe(node: Member) -> str:
    version = f" (pskkey {node.version})" if node.version else ""
    return f"{node.name}{version} speaks {node.speaks}"
