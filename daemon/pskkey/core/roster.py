"""The member map as a master sends it to its members: once whole, and then only what has changed.

If each change sent the whole map to all members, the bytes of a change would grow with the square of their number.

1. Each map that a master sends has a number. GROUP_CHANGE is relative to a map that the receiver has.
2. JOIN names the map that the joiner has, by its fingerprint. A master knows the map of the last master and its own
   last one. So the members of a lost master get only a few bytes from the next one. A joiner with another map gets all
   entries.
3. The map of a new master begins with the members of the last one, without that master. It removes those that have not
   joined in time. So the joins of a takeover do not change the map.
4. Acknowledgements are in the entries of GROUP only: they change often, and only the master needs them.
5. A node that does not read GROUP_CHANGE gets GROUP, with the same content.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from pskkey.core.rank import succession
from pskkey.model import MAX_MEMBERS, Group, GroupChange, Levels, Member

FINGERPRINT_DIGITS: Final = 16

type _Facts = tuple[str, tuple[str, ...], int, int, bool, int | None, str, Levels]


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """A member map that was sent, with its number, and the sender ids in use."""

    number: int
    group: Group
    senders: frozenset[int]
    facts: dict[str, _Facts]
    """The entry of each member by its id, without the acknowledgement."""

    @staticmethod
    def of(number: int, group: Group, senders: frozenset[int]) -> "Roster":
        """Return the map of `group`."""
        return Roster(number, group, senders, {member.id: _facts(member) for member in group.members})

    def lists(self, member: Member) -> bool:
        """Return whether the map has this entry."""
        return self.facts.get(member.id) == _facts(member)

    def is_as(self, other: "Roster") -> bool:
        """Return whether the members need no change from the one map to the other. The age of a key is no change."""
        mine = replace(self.group, members=(), succession=(), key_age=0)
        others = replace(other.group, members=(), succession=(), key_age=0)
        return mine == others and (self.senders, self.facts) == (other.senders, other.facts)


def fingerprint(group: Group) -> str:
    """Return the fingerprint of the member map of a group, 16 hexadecimal digits.

    It covers all that a change from this map may leave out.
    """
    entries = sorted((member.id, *_facts(member)) for member in group.members)
    known = repr((group.master, group.times, group.level, entries))
    return sha256(known.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def change_between(base: Roster | None, knows: str, roster: Roster, *, has_keys: bool, age: int) -> GroupChange:
    """Return the change from `base` to `roster`. `knows`: `base` is the map that JOIN named; empty: it was sent before.

    `base` is None if the receiver has no map that this master knows. `has_keys`: KEY_STATE follows, which has the
    sender ids in use. `age` is that of the key to send with, in seconds.

    A new sender id follows from the entry of its node. The ids in use are sent only if one is free again, or if a node
    has one that is not in the map yet.
    """
    group, former = roster.group, None if base is None else base.group
    facts = {} if base is None else base.facts
    members = tuple(replace(m, acked_epoch=None) for m in group.members if facts.get(m.id) != roster.facts[m.id])
    has_senders = has_keys or (base is not None and base.senders | sender_ids(members) == roster.senders)
    return GroupChange(
        term=group.term,
        number=roster.number,
        base=0 if knows or base is None else base.number,
        knows=knows,
        master=None if former is not None and former.master == group.master else group.master,
        members=members,
        left=tuple(node for node in facts if node not in roster.facts),
        times=None if former is not None and former.times == group.times else group.times,
        level=None if former is not None and former.level == group.level else group.level,
        senders=None if has_senders else roster.senders,
        key_age=age if has_keys else 0,
        known_outside=group.known_outside,
        has_keys=has_keys,
    )


def sender_ids(members: Iterable[Member]) -> frozenset[int]:
    """Return the sender ids in the entries of members."""
    return frozenset(member.sender_id for member in members if member.sender_id is not None)


def apply_change(base: Group | None, change: GroupChange) -> Group | None:
    """Return the group after a change of `base`, None if the change does not fit."""
    former = {} if base is None else {member.id: member for member in base.members}
    master = change.master or (base.master if base is not None else None)
    times = change.times or (base.times if base is not None else None)
    level = change.level or (base.level if base is not None else None)
    if master is None or times is None or level is None or any(node not in former for node in change.left):
        return None
    for node in change.left:
        del former[node]
    members = tuple({**former, **{member.id: member for member in change.members}}.values())
    if len(members) > MAX_MEMBERS:
        return None
    order = succession(members, master)
    return Group(change.term, master, members, order, times, level, change.key_age, change.known_outside)


def _facts(member: Member) -> _Facts:
    m = member
    return (m.name, m.addresses, m.port, m.priority, m.eligible, m.sender_id, m.version, m.speaks)
