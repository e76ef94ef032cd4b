"""The member map of a master: its entries, and the keys of each member, as they are now."""

from collections.abc import Mapping
from dataclasses import replace

from pskkey.core import rank
from pskkey.core.actions import Action
from pskkey.core.admission import Joined
from pskkey.core.arrivals import Arrivals
from pskkey.core.events import Session
from pskkey.core.keyring import Keyring
from pskkey.core.lease_allocator import LeaseAllocator
from pskkey.core.levels import GroupLevels
from pskkey.core.settings import Settings
from pskkey.model import Group, KeyState, Member


class MemberMap:
    """The map of the members in `joined`, which belongs to `Members`, with their leases and the awaited nodes."""

    def __init__(
        self, settings: Settings, keyring: Keyring, joined: Mapping[Session, Joined], out: list[Action]
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        self._joined = joined
        self._out = out
        self.levels = GroupLevels(settings)
        self.begin(0, None)

    def begin(self, term: int, former: Group | None) -> None:
        """Begin as master of `term`. `former`: the group of the last master."""
        self.term = term
        self._inherited = () if former is None else tuple(m for m in former.members if m.id != former.master)
        self.arrivals = Arrivals(self._settings.max_members)
        self.allocator = LeaseAllocator(self._settings, self._keyring, self.group, self._out)

    def group(self, joiner: Session | None = None, now: float | None = None) -> Group:
        """Return the group as it is now, for its members or for a joiner that has not confirmed yet.

        `now`: the time at which it is sent, which counts for the age of the key.
        """
        listed = [j.member for s, j in self._joined.items() if j.has_arrived or s == joiner]
        members, me = (self.me, *map(self.with_lease, listed)), self._settings.me.id
        times, age = self._settings.timing.times, 0 if now is None else self._keyring.age(now)
        succession = rank.succession(members, me)
        return Group(self.term, me, members, succession, times, self.level, age, self._keyring.known_outside)

    def as_sent(self, joiner: Session | None, now: float) -> Group:
        """Return the group as it is sent: also with the members of the last master that are still on their way.

        Such a member has not joined yet, or has not confirmed yet. After that it is like every other member.
        """
        group = self.group(joiner, now)
        unconfirmed = {j.member.id for j in self._joined.values() if not j.has_arrived}
        coming = self.arrivals.members | unconfirmed
        self._inherited = tuple(m for m in self._inherited if m.id in coming)
        listed = {member.id for member in group.members}
        missing = [m for m in self._inherited if m.id not in listed]
        if not missing:
            return group
        members = (*group.members, *map(self.with_lease, missing))
        return replace(group, members=members, succession=rank.succession(members, group.master))

    @property
    def me(self) -> Member:
        """Return the master as a member, with its own lease and acknowledgement."""
        newest = self._keyring.newest
        return replace(self.with_lease(self._settings.me), acked_epoch=newest.epoch if newest else None)

    @property
    def level(self) -> int:
        """Return the protocol level of the group."""
        return self.levels.find_level([joined.member for joined in self._joined.values()], self.arrivals.members)

    def successor(self, node: str | None = None) -> Member | None:
        """Return the member with the id `node` (None: the successor), or None if there is no such member."""
        group = self.group()
        wanted = node if node is not None else next(iter(group.succession), None)
        return next((m for m in group.members if m.id == wanted and m.id != group.master), None)

    @property
    def epoch(self) -> int:
        """Return the epoch of the key to send with, 0 without one."""
        return current.epoch if (current := self._keyring.current) else 0

    def key_state(self, node: str) -> KeyState:
        """Return all keys, with the lease of a node. A blocked lease is left out."""
        blocked = self.allocator.leases.is_blocked(node, self.epoch)
        sender_id = None if blocked else self.allocator.leases.sender_id(node)
        return KeyState(sender_id, self.allocator.leases.in_use(), self._keyring.wire_entries())

    def key_state_for(self, joined: Joined) -> KeyState:
        """Return the key state for a member. If the member has a former key, the list has no key to send with."""
        state = self.key_state(joined.member.id)
        if joined.former is None:
            return state
        return replace(state, entries=tuple(replace(entry, send=False) for entry in state.entries))

    def with_lease(self, member: Member) -> Member:
        """Return a member with its leased sender id."""
        sender_id = self.allocator.leases.sender_id(member.id)
        return member if member.sender_id == sender_id else replace(member, sender_id=sender_id)
