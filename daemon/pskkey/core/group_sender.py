"""The GROUP, GROUP_CHANGE and KEY_STATE messages of a master: each member gets what it does not have yet (`roster`).

KEY_STATE is for one member. It is sent when the keys of this member, or its own sender id, have changed. The sender ids
of the others are in GROUP_CHANGE. With the first key to send with, the member also gets the age of this key.
"""

from collections.abc import Callable
from itertools import count
from typing import Final

from pskkey.core.actions import Action, Send
from pskkey.core.admission import Joined
from pskkey.core.roster import Roster, change_between, fingerprint
from pskkey.model import Group, GroupChange, Join, KeyState, Member

MOST_CHANGES: Final = 64
"""Changes that are kept because other members may need the same. Those of joiners differ."""


class GroupSender:
    """The maps that a master has sent in one term. Methods append actions to `out`."""

    def __init__(self, out: list[Action], inherited: Group | None) -> None:
        """Begin a term. `inherited` is the map of the last master, if this node has one."""
        self._out = out
        self._numbers = count(1)
        self._inherited = None if inherited is None else Roster.of(0, inherited, frozenset())
        self._fingerprints: dict[int, str] = {}
        """By number, the fingerprints of the maps that a joiner may name."""
        self._changes: dict[tuple[int | None, str, bool, int], GroupChange] = {}
        """The changes to the last map, which are the same for many members: at most MOST_CHANGES."""
        self._welcomed: Roster | None = None
        """The map that the last joiner has got, if it was not the last one."""
        self.last: Roster | None = None
        """The map that all members have got, or get now."""

    def lists(self, node: str) -> bool:
        """Return whether the last map lists the node with this id."""
        return self.last is not None and node in self.last.facts

    def knows_map_of(self, join: Join) -> bool:
        """Return whether JOIN names a map that this master knows: its own last one, or that of the last master."""
        return join.knows is not None and self._find(join.knows) is not None

    def publish(self, group: Group, senders: frozenset[int]) -> None:
        """Let `group` be the map for all members. `senders` are the sender ids in use."""
        roster = Roster.of(next(self._numbers), group, senders)
        if self.last is None or not roster.is_as(self.last):
            self._changes.clear()
            # A joiner has often got the same map already.
            self.last = self._welcomed if self._welcomed is not None and roster.is_as(self._welcomed) else roster
            self._welcomed = None

    def welcome(
        self, joined: Joined, entry: Member, make_group: Callable[[], Group], state: KeyState, age: int
    ) -> None:
        """Send the map and the keys to a joiner. `entry` is its own one, and `make_group` returns a group with it.

        The group is made only if the last map does not do: in a takeover all joiners are in it already. `age` is that
        of the key to send with, in seconds.
        """
        roster, knows = self.last, joined.join.knows
        if roster is None or not roster.lists(entry) or knows is None:
            group = make_group()
            roster = self._welcomed = Roster.of(next(self._numbers), group, state.senders)
            if knows is None:
                self._out.append(Send(joined.session, group))
        if knows is not None:
            base = self._find(knows)
            change = self._change(base, "" if base is None else knows, roster, has_keys=True, age=age)
            self._out.append(Send(joined.session, change))
        self._send_keys(joined, roster, state)

    def update(self, joined: Joined, group: Group, state: KeyState, *, is_stale: bool) -> None:
        """Send a member the changes of the map, and its keys if they have changed.

        `group` is the map with the acknowledgements, and `is_stale` whether it has changed, for a member that reads
        only GROUP.
        """
        if self.last is None:
            raise RuntimeError("no map was published")
        if joined.join.knows is None:
            if is_stale:
                self._out.append(Send(joined.session, group))
            self._send_keys(joined, self.last, state)
            return
        has_keys = joined.sent is None or (joined.sent.sender_id, joined.sent.entries) != (
            state.sender_id,
            state.entries,
        )
        needs_age = has_keys and group.key_age > 0 and _sends_with(joined.sent) != _sends_with(state)
        if joined.roster is not self.last or needs_age:
            change = self._change(joined.roster, "", self.last, has_keys=has_keys, age=group.key_age)
            self._out.append(Send(joined.session, change))
        joined.roster = self.last
        if has_keys:
            self._send_keys(joined, self.last, state)

    def _send_keys(self, joined: Joined, roster: Roster, state: KeyState) -> None:
        joined.roster, joined.sent = roster, state
        self._out.append(Send(joined.session, state))

    def _change(self, base: Roster | None, knows: str, roster: Roster, *, has_keys: bool, age: int) -> GroupChange:
        if roster is not self.last:
            return change_between(base, knows, roster, has_keys=has_keys, age=age)
        key = (None if base is None else base.number, knows, has_keys, age if has_keys else 0)
        if (change := self._changes.get(key)) is None:
            while len(self._changes) >= MOST_CHANGES:
                del self._changes[next(iter(self._changes))]
            change = self._changes[key] = change_between(base, knows, roster, has_keys=has_keys, age=age)
        return change

    def _find(self, knows: str) -> Roster | None:
        """Return the map with a fingerprint, None if this master does not know it."""
        for roster in (self.last, self._inherited):
            if roster is not None:
                if roster.number not in self._fingerprints:
                    self._fingerprints[roster.number] = fingerprint(roster.group)
                if self._fingerprints[roster.number] == knows:
                    return roster
        return None


def _sends_with(state: KeyState | None) -> str | None:
    entries = () if state is None else state.entries
    return next((entry.key.fingerprint for entry in entries if entry.send), None)
