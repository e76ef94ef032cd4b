"""The master's side of the group: who has joined, are they alive, and what each must be told.

GROUP and KEY_STATE are full states, so what is not sent at once is not lost: a change marks them stale, and at most
every `group_interval` what is stale goes out to everybody, in that order, so that no key state is seen under an old
term. A joiner is told at once.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from pskkey.core import rank
from pskkey.core.actions import Action, Disconnect, Send
from pskkey.core.admission import Admission, Joined
from pskkey.core.arrivals import Arrivals
from pskkey.core.events import Session
from pskkey.core.former_keys import former_key, leave_former_keys
from pskkey.core.grants import Grants
from pskkey.core.keyring import Keyring
from pskkey.core.notices import BadJoin, DuplicateMember, MemberJoined, MemberLost, MemberRefused
from pskkey.core.settings import Settings
from pskkey.model import ErrorMessage, Group, Handover, Heartbeat, Join, KeyAck, KeyState, Member, Merge

ACKS_WITHIN = 2.0
"""Seconds from its JOIN in which a member that came without keys acknowledges one.

It takes a round trip, and up to `consumers_return` for its session managers. One that does not cannot read what is sent
now either, so no new key waits for it any longer: a peer that joins and acknowledges nothing would put off each one to
its deadline. One that came with keys of another group is waited for: it may still read and send with those.
"""


type _Refusal = type[DuplicateMember | BadJoin | MemberRefused]


class Members:
    """The sessions of those who joined us as master. Methods append what must be done to `out`."""

    def __init__(self, settings: Settings, keyring: Keyring, out: list[Action]) -> None:
        self._settings = settings
        self._keyring = keyring
        self._out = out
        self._open: dict[Session, str] = {}
        """The open sessions of clients, joined or not, with their addresses."""
        self._joined: dict[Session, Joined] = {}
        self._admission = Admission(settings)
        self._ids: frozenset[str] | None = None
        """The ids of the joined, until somebody comes or goes: they are asked for at each event."""
        self._silent_at = float("inf")
        """No member's deadline is earlier than this; who is heard later has a later one."""
        self._grants = Grants(settings, keyring, self.group, out)
        self._term = 0
        self._group_stale = False
        self._keys_version = -1
        self._next_heartbeat = 0.0
        self._next_flush = 0.0
        self._arrivals = Arrivals()
        self._told_epoch = 0
        self.told: Group | None = None
        """The group as everybody was told of it at the last flush."""
        self.published = 1
        """How many members the group had at the last flush, the master included: what its advert says."""

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> frozenset[str]:
        """Return the ids of the joined members, without the master's."""
        if self._ids is None:
            self._ids = frozenset(j.member.id for j in self._joined.values())
        return self._ids

    @property
    def awaited(self) -> frozenset[str]:
        """Return the ids of nodes that were members a moment ago, of ours or of the last master, and may join again."""
        return self._arrivals.ids

    @property
    def count(self) -> int:
        """Return the number of members, the master included."""
        return len(self._joined) + 1

    def heir(self, node: str | None = None) -> Member | None:
        """Return the member with this id, or, for None, the first in the succession; None if there is none."""
        group = self.group()
        wanted = node if node is not None else next(iter(group.succession), None)
        return next((m for m in group.members if m.id == wanted and m.id != group.master), None)

    def better_than_me(self, now: float, is_out_of_reach: Callable[[str, float], bool]) -> Member | None:
        """Return the member that is to be master instead, by preemption or because we are not eligible; None: nobody.

        It has been here for long enough to be trusted with it, and others can reach it.
        """
        me = self._settings.me
        if me.eligible and not self._settings.preempt:
            return None
        settled = now - self._settings.timing.preempt_after
        there = [j.member for j in self._joined.values() if j.since <= settled and j.member.eligible]
        better = [
            m for m in there if rank.candidate_order(m) < rank.candidate_order(me) and not is_out_of_reach(m.id, now)
        ]
        return min(better, key=rank.candidate_order, default=None)

    def opened(self, session: Session, address: str) -> None:
        """A client opened a session from `address`."""
        self._open[session] = address

    def address_of(self, session: Session) -> str | None:
        """Return the address of an open session, None if it is not open any more."""
        return self._open.get(session)

    def has(self, session: Session) -> bool:
        """Tell whether a session has joined."""
        return session in self._joined

    def id_of(self, session: Session) -> str:
        """Return the node id of a session that has joined."""
        return self._joined[session].member.id

    def group(self) -> Group:
        """Return GROUP as it stands."""
        me = self.me
        members = (me, *(self._with_lease(j.member) for j in self._joined.values()))
        return Group(self._term, me.id, members, rank.succession(members, me.id))

    @property
    def me(self) -> Member:
        """Return the master as a member, with its own lease and acknowledgement."""
        newest = self._keyring.newest
        return replace(self._with_lease(self._settings.me), acked_epoch=newest.epoch if newest else None)

    def my_key_state(self) -> KeyState:
        """Return the key state as the master's own session managers may have it."""
        return self._key_state(self._settings.me.id)

    @property
    def waiting(self) -> list[str]:
        """Return the nodes, of members and master, that may not send before the group sends with another epoch."""
        return self._grants.leases.waiting(self.ids | {self._settings.me.id}, self._epoch())

    def all_acknowledged(self, epoch: int, now: float) -> bool:
        """Tell whether every member has `epoch` installed, and nobody is on its way who has not."""
        if not self._arrivals.are_over(self._joined.values(), now):
            return False
        newcomer_since = now - ACKS_WITHIN
        waited_for = [
            j
            for j in self._joined.values()
            if j.member.acked_epoch is not None or j.join.held or j.since > newcomer_since
        ]
        return all(j.member.acked_epoch == epoch for j in waited_for)

    # --- becoming and ceasing to be the master ------------------------------------------------------------------

    def found(
        self, term: int, last: Iterable[tuple[str, int | None]], awaited: frozenset[str], state: KeyState, now: float
    ) -> None:
        """Begin as master of `term`, with the leases that go with the current key: those of `last`, and our own.

        `last` are the nodes with their sender ids, as the master told that gave us this key; `awaited` are those of the
        group that we were in last, who are to come to us now, whatever key they send with.

        Our own is what `state` grants us, not what the member map says: that may be an id that waits for a new epoch.
        """
        self._term = term
        self._arrivals = Arrivals()
        for node in awaited:
            self._arrivals.expect(node, now + self._settings.timing.comes_within)
        self._grants = Grants(self._settings, self._keyring, self.group, self._out)
        self._grants.inherit(dict(last), state)
        self._next_heartbeat = now
        self._next_flush = now
        self._group_stale = True

    def expect(self, merge: Merge, now: float) -> None:
        """Wait for the members of another master, which sends them to us now, as its `merge` says."""
        self._arrivals.expect_from(merge, self.ids, now + self._settings.timing.comes_within)

    def lease_to_me(self) -> None:
        """Lease an id to the master itself, which sends too."""
        self._group_stale |= self._grants.to_me()

    def dissolve(self, handover: Handover | None) -> None:
        """Cease to be the master: send everybody to the new one, or away."""
        away = ErrorMessage("not_master", f"{self._settings.me.name} is not the master any more")
        for joined in self._joined.values():
            del self._open[joined.session]
            if handover is None:
                self._out.append(Disconnect(joined.session, away))
            else:
                if self._keys_version != self._keyring.version:
                    # Nobody may come over without the key that we have begun to send with.
                    self._out.append(Send(joined.session, self._key_state_for(joined)))
                is_successor = joined.member.id == handover.master.id
                members = self.group().members if is_successor else ()
                self._out.append(Send(joined.session, replace(handover, members=members)))
                self._out.append(Disconnect(joined.session))
        self._joined.clear()
        self._ids = None
        self.published = 1

    def me_changed(self, now: float) -> None:
        """Our own entry in the member map, or our settings, are others now."""
        self._group_stale = True
        self._next_heartbeat = now

    def set_term(self, term: int) -> None:
        """Take a new term; everybody is told at the next flush."""
        if term != self._term:
            self._term = term
            self._group_stale = True

    # --- members ------------------------------------------------------------------------------------------------

    def refuses(self, session: Session, join: Join, address: str, now: float) -> bool:
        """Tell whether a joiner is refused, after telling it why."""
        leased = self._grants.leases.nodes
        refusal = self._admission.refusal(session, join, address, self._joined, self.awaited, leased, now)
        if refusal is None:
            return False
        notices: dict[str, _Refusal] = {"duplicate_id": DuplicateMember, "protocol": BadJoin}
        self._out.append(notices.get(refusal.code, MemberRefused)(join.member, address, refusal.message))
        self.close(session, refusal)
        return True

    def join(self, session: Session, join: Join, address: str, now: float) -> None:
        """Welcome a member that was not refused, or take its update."""
        olds = [j for j in self._joined.values() if j.member.id == join.member.id and j.session != session]
        for old in olds:
            del self._joined[old.session], self._open[old.session]
            self._out.append(Disconnect(old.session))
        is_new = session not in self._joined
        self._admission.admit(join.member.id, address, self.ids | self.awaited | self._grants.leases.nodes)
        self._grants.to_joiner(join)
        timing = self._settings.timing
        deadline = now + timing.dead_after
        if is_new:
            former = former_key(join.held, self._keyring.current)
            come_by = now + timing.comes_within
            until, others_until = now + timing.former_key_span, come_by if join.others_follow else None
            member = replace(join.member, acked_epoch=None)
            self._joined[session] = Joined(session, member, join, now, deadline, former, until, others_until)
            self._group_stale = True
        else:
            joined = self._joined[session]
            member = replace(join.member, acked_epoch=joined.member.acked_epoch)
            self._group_stale |= member != joined.member or join.sender != joined.join.sender
            joined.member, joined.join, joined.deadline = member, join, deadline
            if not join.others_follow:
                joined.others_until = None
        self._ids = None
        self._silent_at = min(self._silent_at, deadline)
        self._arrivals.came(join.member.id)
        if is_new:
            if not any(old.join.instance == join.instance for old in olds):  # else it was here all the time
                self._out.append(MemberJoined(join.member, address))
            self._out.append(Send(session, self.group()))
            self._out.append(Send(session, self._key_state_for(self._joined[session])))

    def heard(self, session: Session, now: float) -> None:
        """Any message came from a member: it lives."""
        if (joined := self._joined.get(session)) is not None:
            joined.deadline = now + self._settings.timing.dead_after

    def acknowledge(self, session: Session, ack: KeyAck) -> None:
        """A member has installed an epoch for reception."""
        joined = self._joined.get(session)
        if joined is not None and ack.epoch in self._keyring.live_epochs:
            self._group_stale |= joined.member.acked_epoch is None  # now it can read all that is sent here
            joined.member = replace(joined.member, acked_epoch=ack.epoch)

    def broke(self, session: Session, reason: str, now: float) -> None:
        """A connection broke, and its node knows that as well: a member may be back in a moment."""
        timing = self._settings.timing
        self._open.pop(session, None)
        self._lost(session, reason, now + timing.reconnect_timeout + timing.successor_timeout)

    def close(
        self,
        session: Session,
        error: ErrorMessage | None = None,
        why: str = "its session was closed",
        back_by: float | None = None,
    ) -> None:
        """Close a client's session, after sending `error`. What still comes on it is ignored."""
        if self._open.pop(session, None) is not None:
            self._out.append(Disconnect(session, error))
            self._lost(session, why, back_by)

    def _lost(self, session: Session, reason: str, back_by: float | None = None) -> None:
        """A member's session is over; its node may be back until `back_by`."""
        joined = self._joined.pop(session, None)
        if joined is None:
            return
        self._ids = None
        if back_by is not None:
            self._arrivals.expect(joined.member.id, back_by)
        self._group_stale = True
        self._grants.forget(joined.member.id)
        self._out.append(MemberLost(joined.member, reason))

    # --- time ---------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `tick` must be called next; never later than a heartbeat, so that a master notices its sleep."""
        times = [self._next_heartbeat, self._silent_at]
        formers = (j for j in self._joined.values() if j.former is not None)
        times += [j.former_until if j.others_until is None else j.others_until for j in formers]
        if (arrived_by := self._arrivals.next_deadline()) is not None:
            times.append(arrived_by)
        if self._group_stale or self._keys_version != self._keyring.version:
            times.append(self._next_flush)
        return min(times)

    def tick(self, now: float) -> None:
        """Send heartbeats, bury the dead, and tell everybody what has changed."""
        timing = self._settings.timing
        if now >= self._silent_at:
            for joined in [j for j in self._joined.values() if now >= j.deadline]:
                self.close(joined.session, None, "it fell silent", now + timing.comes_within)
            self._silent_at = min((j.deadline for j in self._joined.values()), default=float("inf"))
        self._leave_former_keys(now)
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + timing.heartbeat_interval
            self._out.extend(Send(session, Heartbeat()) for session in self._joined)
        if now >= self._next_flush:
            self._flush(now)

    def _flush(self, now: float) -> None:
        keys_stale = self._keys_version != self._keyring.version
        if not self._group_stale and not keys_stale:
            return
        # With a new epoch in use, the members' acknowledgements of it are worth telling.
        self._group_stale |= self._epoch() != self._told_epoch
        self._told_epoch = self._epoch()
        self._grants.leases.review(self.ids | {self._settings.me.id}, self._keyring.live_epochs)
        for joined in self._joined.values():
            if joined.join.sender and self._grants.leases.sender_id(joined.member.id) is None:
                self._grants.to_joiner(joined.join)  # there was none left when it joined
        group = self.group()
        for joined in self._joined.values():
            if self._group_stale:
                self._out.append(Send(joined.session, group))
            # A new member is a new sender id, so the bitmap in KEY_STATE changes with GROUP.
            self._out.append(Send(joined.session, self._key_state_for(joined)))
        self.told = group
        self._group_stale = False
        self._keys_version = self._keyring.version
        self._next_flush = now + self._settings.timing.group_interval
        self.published = self.count

    def _leave_former_keys(self, now: float) -> None:
        current, joined = self._keyring.current, self._joined.values()
        all_are_here = self._arrivals.are_over(joined, now)
        formers = [j.former for j in joined if j.former is not None]
        for former in formers:
            self._keyring.keep(former, now)
        if current is None or not formers:
            return
        if leave_former_keys(joined, current, self._keyring.next, all_are_here=all_are_here, now=now):
            self._keys_version = -1

    def _epoch(self) -> int:
        current = self._keyring.current
        return current.epoch if current else 0

    def _key_state(self, node: str) -> KeyState:
        blocked = self._grants.leases.is_blocked(node, self._epoch())
        sender_id = None if blocked else self._grants.leases.sender_id(node)
        return KeyState(sender_id, self._grants.leases.in_use(), self._keyring.wire_entries())

    def _key_state_for(self, joined: Joined) -> KeyState:
        """Return the key state of a member. Without a key to send with it goes on with the one that it came with."""
        state = self._key_state(joined.member.id)
        if joined.former is None:
            return state
        return replace(state, entries=tuple(replace(entry, send=False) for entry in state.entries))

    def _with_lease(self, member: Member) -> Member:
        return replace(member, sender_id=self._grants.leases.sender_id(member.id))
