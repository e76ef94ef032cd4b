"""The members of a master: their sessions, whether they are alive, and the state that the master sends to them.

1. A change marks the group or the keys stale. Stale state goes to all members at most once per `group_interval`. Each
   member gets what it does not have yet (`group_sender`).
2. The group goes out before KEY_STATE, so that no member takes a key state under an old term.
3. A joiner gets both at once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from pskkey.core.acknowledgements import have_all_acknowledged
from pskkey.core.actions import Action, Disconnect, Send
from pskkey.core.admission import Admission, Joined, report_of, reports_of_unconfirmed
from pskkey.core.confirmations import Confirmations
from pskkey.core.events import Accepted, Session
from pskkey.core.former_keys import find_former_key, leave_former_keys
from pskkey.core.group_sender import GroupSender
from pskkey.core.keyring import Keyring
from pskkey.core.levels import GroupLevels
from pskkey.core.member_map import MemberMap
from pskkey.core.notices import MemberJoined, MemberLost
from pskkey.core.settings import Settings
from pskkey.model import ErrorMessage, Group, Handover, Heartbeat, Join, KeyAck, KeyState, Member, Times


class Members:
    """The sessions of the members of this master. Methods append actions to `out`."""

    def __init__(self, settings: Settings, keyring: Keyring, out: list[Action]) -> None:
        self._settings = settings
        self._keyring = keyring
        self._out = out
        self._open: dict[Session, Accepted] = {}
        """The open inbound sessions, joined or not."""
        self._joined: dict[Session, Joined] = {}
        self._admission = Admission(settings)
        self._ids: frozenset[str] | None = None
        """Cache of `ids`, which every event reads; None after a change of the members."""
        self._silent_at = float("inf")
        """A lower bound of the deadlines of all members."""
        self._map = MemberMap(settings, keyring, self._joined, out)
        self._group_stale = False
        self._keys_version = -1
        self._next_heartbeat = 0.0
        self._next_flush = 0.0
        self._sender = GroupSender(out, None)
        self._sent_epoch = 0
        self.confirmations = Confirmations()
        self.published = 1
        """The number of members at the last flush, the master included: the number in the advert."""
        self.is_full = False
        """Whether members and awaited nodes had all places at the last flush. The advert announces this."""

    # --- queries ------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> frozenset[str]:
        """Return the ids of the joined members, without the master's."""
        if self._ids is None:
            self._ids = frozenset(j.member.id for j in self._joined.values() if j.has_arrived)
        return self._ids

    @property
    def awaited(self) -> frozenset[str]:
        """Return the ids of nodes that may join soon. They were members of this master or of the last one."""
        return self._map.arrivals.members

    @property
    def yielded(self) -> frozenset[str]:
        """Return the ids of masters that have yielded to this one, and have not joined yet."""
        return self._map.arrivals.masters

    @property
    def group(self) -> Group:
        """Return the group as it is now."""
        return self._map.group()

    @property
    def levels(self) -> GroupLevels:
        """Return the protocol levels of the group."""
        return self._map.levels

    def successor(self, node: str | None = None) -> Member | None:
        """Return the member with the id `node` (None: the successor), or None if there is no such member."""
        return self._map.successor(node)

    def settled(self, now: float) -> list[Member]:
        """Return the eligible members that joined at least `preempt_after` ago."""
        latest = now - self._settings.timing.preempt_after
        return [j.member for j in self._joined.values() if j.has_arrived and j.since <= latest and j.member.eligible]

    def opened(self, accepted: Accepted) -> None:
        """Record a new inbound session."""
        self._open[accepted.session] = accepted

    def peer_of(self, session: Session) -> Accepted | None:
        """Return the address and the PSK identity at an open inbound session, None if it is closed."""
        return self._open.get(session)

    def has(self, session: Session) -> bool:
        """Return whether a session has joined."""
        return session in self._joined

    def has_arrived(self, session: Session) -> bool:
        """Return whether a session has joined, and its peer has confirmed that."""
        return (joined := self._joined.get(session)) is not None and joined.has_arrived

    def confirm(self, session: Session) -> Joined | None:
        """Record that a member has sent a message since its JOIN. Return it if this is the first one, else None."""
        joined = self._joined[session]
        if joined.has_arrived:
            return None
        joined.has_arrived = self._group_stale = True
        joined.has_yielded = self.confirmations.confirm(joined.member.id)
        self._ids = None
        self._out.append(MemberJoined(joined.member, joined.peer.address))
        return joined

    def with_other_times(self, times: Times) -> Iterator[Joined]:
        """Yield the members whose times differ from `times`."""
        return (j for j in self._joined.values() if j.has_arrived and j.join.times != times)

    def id_of(self, session: Session) -> str:
        """Return the node id of a session that has joined."""
        return self._joined[session].member.id

    @property
    def last_sent(self) -> Group | None:
        """Return the group as the last flush sent it to all members."""
        return None if self._sender.last is None else self._sender.last.group

    def my_key_state(self) -> KeyState:
        """Return the key state for the master's own session managers."""
        return self._map.key_state(self._settings.me.id)

    @property
    def waiting(self) -> list[str]:
        """Return the ids of the nodes, the master included, whose lease is blocked under the current epoch."""
        return self._map.allocator.leases.waiting(self.ids | {self._settings.me.id}, self._map.epoch)

    def all_acknowledged(self, epoch: int, now: float) -> bool:
        """Return whether no node is on its way, and each member that counts has acknowledged `epoch`."""
        return self._map.arrivals.are_over(now) and have_all_acknowledged(self._waited_for(now), epoch, now)

    # --- begin and end as master --------------------------------------------------------------------------------

    def begin_term(
        self,
        term: int,
        former: Group | None,
        last: Iterable[tuple[str, int | None]],
        awaited: frozenset[str],
        state: KeyState,
        now: float,
    ) -> None:
        """Begin as master of `term`, with the leases that belong to the current key.

        `former`: the group of the last master. `last`: the node ids with their sender ids, as the last master of this
        key announced them. `awaited`: the ids of
        nodes of the last group, which may join now. `state`: the key state of this node. This node takes its own lease
        from it, because its id in `last` may be blocked until a new epoch.
        """
        self._map.begin(term, former)
        self.confirmations = Confirmations()
        for node in awaited:
            self._map.arrivals.expect(node, now + self._settings.timing.comes_within)
        self._map.allocator.inherit(dict(last), state)
        self._sender = GroupSender(self._out, former)
        self._next_heartbeat = now
        self._next_flush = now
        self._group_stale = True

    def expect(self, master: str, now: float) -> None:
        """Wait for another master, which yields to this one."""
        self.confirmations.note_yielded(master)
        self._wait_again(now)
        if master not in self.ids:
            self._map.arrivals.expect_master(master, now + self._settings.timing.comes_within)

    def _wait_again(self, now: float) -> None:
        self._map.arrivals.begin_again(now, self._settings.timing.comes_within)

    def lease_to_me(self) -> None:
        """Lease a sender id to the master itself, for its own session manager."""
        self._group_stale |= self._map.allocator.lease_to_me()

    def dissolve(self, handover: Handover | None) -> None:
        """Release all members: send them `handover`, or, if that is None, `not_master`. Close their sessions."""
        away = ErrorMessage("not_master", f"{self._settings.me.name} is not the master any more")
        for joined in self._joined.values():
            del self._open[joined.session]
            if handover is None:
                self._out.append(Disconnect(joined.session, away))
            else:
                if self._keys_version != self._keyring.version:
                    # This node may send with a new key already, so each member needs it.
                    self._out.append(Send(joined.session, self._map.key_state_for(joined)))
                members = self._map.group().members if joined.member.id == handover.master.id else ()
                self._out.append(Send(joined.session, replace(handover, members=members)))
                self._out.append(Disconnect(joined.session))
        self._out += reports_of_unconfirmed(self._joined.values())
        self._joined.clear()
        self._ids = None
        self.published, self.is_full = 1, False
        self._map.levels.begin(())

    def announce_changed_master(self, now: float) -> None:
        """Make GROUP and a heartbeat due: the master's entry in the member map or its settings have changed."""
        self._group_stale = True
        self._next_heartbeat = now

    def set_term(self, term: int) -> None:
        """Take a new term; the next flush sends it to all members."""
        if term != self._map.term:
            self._map.term = term
            self._group_stale = True

    # --- members ------------------------------------------------------------------------------------------------

    def refuses(self, session: Session, join: Join, address: str, now: float) -> bool:
        """Return whether a joiner is refused. If it is, report it and close its session with the reason."""
        leased = self._map.allocator.leases.nodes
        refusal = self._admission.refusal(session, join, address, self._joined, self.awaited, leased, now)
        if refusal is None:
            return False
        self._out.append(report_of(refusal, join.member, address))
        self.close(session, refusal)
        return True

    def join(self, session: Session, join: Join, address: str, now: float) -> None:
        """Add a joiner that was not refused, or update a member."""
        olds = [j for j in self._joined.values() if j.member.id == join.member.id and j.session != session]
        self._out += reports_of_unconfirmed(old for old in olds if old.join.incarnation != join.incarnation)
        for old in olds:
            del self._joined[old.session], self._open[old.session]
            self._out.append(Disconnect(old.session))
        is_new = session not in self._joined
        self._admission.admit(
            join.member.id, address, self._present() | self.awaited | self._map.allocator.leases.nodes
        )
        self._map.allocator.lease_to_joiner(join)
        timing = self._settings.timing
        deadline = now + max(timing.dead_after, join.times.dead_after)
        if is_new:
            former = find_former_key(join.held, self._keyring.current)
            member = replace(join.member, acked_epoch=None)
            same = [old for old in olds if old.join.incarnation == join.incarnation]  # the session was renewed
            until = min([now + timing.former_key_span, *(old.former_until for old in same if old.former)])
            self._joined[session] = Joined(self._open[session], member, join, now, deadline, former, until)
            if any(old.has_arrived for old in same):
                self._joined[session].has_arrived = self._group_stale = True
            else:
                self.confirmations.expect(member, address, now)
        else:
            joined = self._joined[session]
            member = replace(join.member, acked_epoch=joined.member.acked_epoch)
            self._group_stale |= member != joined.member or join.sender != joined.join.sender
            joined.member, joined.join, joined.deadline = member, join, deadline
        self._ids = None
        self._silent_at = min(self._silent_at, deadline)
        self._map.arrivals.note_arrival(join.member.id)
        if is_new and join.held and not self._sender.knows_map_of(join):
            self._wait_again(now)
        if is_new:
            joined = self._joined[session]
            entry, state = self._map.with_lease(joined.member), self._map.key_state_for(joined)
            make_group = partial(self._map.as_sent, session, now)
            self._sender.welcome(joined, entry, make_group, state, self._keyring.age(now))

    def extend_deadline(self, session: Session, now: float) -> None:
        """Extend the deadline of a member: it has sent a message."""
        if (joined := self._joined.get(session)) is not None:
            joined.deadline = now + joined.dead_after(self._settings.timing.dead_after)
            self._silent_at = min(self._silent_at, joined.deadline)  # `dead_after` may have become shorter

    def acknowledge(self, session: Session, ack: KeyAck) -> None:
        """Record that a member has installed an epoch for reception; ignore an epoch that is not held."""
        joined = self._joined.get(session)
        if joined is not None and ack.epoch in self._keyring.live_epochs:
            self._group_stale |= joined.member.acked_epoch is None  # GROUP shows the acknowledgement
            joined.member = replace(joined.member, acked_epoch=ack.epoch)

    def remove_broken(self, session: Session, reason: str, now: float) -> None:
        """Remove the member of a broken session, and await its node, which may join again."""
        self._open.pop(session, None)
        self._lost(session, reason, self._back_by(session, now))

    def close(
        self,
        session: Session,
        error: ErrorMessage | None = None,
        why: str = "its session was closed",
        back_by: float | None = None,
    ) -> None:
        """Close an inbound session after sending `error`. `why` is for the report that the member is lost.

        Await the node until `back_by`; None: do not await it.
        """
        if self._open.pop(session, None) is not None:
            self._out.append(Disconnect(session, error))
            self._lost(session, why, back_by)

    def _lost(self, session: Session, reason: str, back_by: float | None = None) -> None:
        """Remove a member whose session is over. Await its node until `back_by`; None: do not await it."""
        joined = self._joined.pop(session, None)
        if joined is None:
            return
        self._ids = None
        if back_by is not None:
            self._map.arrivals.expect(joined.member.id, back_by)
        self._group_stale |= joined.has_arrived or self._sender.lists(joined.member.id)
        self._map.allocator.forget(joined.member.id)
        self._out += [MemberLost(joined.member, reason)] if joined.has_arrived else reports_of_unconfirmed([joined])

    # --- time ---------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        """Return when `tick` is due. It is due at each heartbeat, so that a master notices its own sleep."""
        times = [self._next_heartbeat, self._silent_at]
        times += [j.former_until for j in self._joined.values() if j.former is not None]
        if (arrived_by := self._map.arrivals.next_deadline()) is not None:
            times.append(arrived_by)
        if self._group_stale or self._keys_version != self._keyring.version:
            times.append(self._next_flush)
        return min(times)

    def tick(self, now: float, read_until: float) -> None:
        """Close the sessions of silent members, end the use of former keys, and send heartbeats and stale state.

        This node has read what had arrived before `read_until`.
        """
        timing = self._settings.timing
        if read_until >= self._silent_at:
            for joined in [j for j in self._joined.values() if read_until >= j.deadline]:
                self.close(joined.session, None, "it fell silent", self._back_by(joined.session, now))
            self._find_silent_at()
        all_are_here = self._map.arrivals.are_over(read_until)
        self._group_stale |= self._map.arrivals.has_given_up
        self._map.arrivals.has_given_up = False
        if leave_former_keys(self._waited_for(now), self._keyring, all_are_here=all_are_here, now=now):
            self._keys_version, self._group_stale = -1, True  # GROUP has the age of the key to send with
        level = None if self.last_sent is None else self.last_sent.level
        self._group_stale |= self.is_full != self._has_no_place() or level != self._map.level
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + timing.beat_interval(len(self._joined) + 1)
            heartbeat = Heartbeat()  # one for all, so that it is encoded once
            self._out.extend(Send(session, heartbeat) for session in self._joined)
            if self._silent_at <= self._next_heartbeat:
                self._find_silent_at()  # so the bound expires only if a member is silent
        if now >= self._next_flush:
            self._flush(now)

    def _find_silent_at(self) -> None:
        self._silent_at = min((j.deadline for j in self._joined.values()), default=float("inf"))

    def _flush(self, now: float) -> None:
        keys_stale = self._keys_version != self._keyring.version
        if not self._group_stale and not keys_stale:
            return
        # GROUP is stale after a new current epoch, because it carries the acknowledgements of the members.
        self._group_stale |= self._map.epoch != self._sent_epoch
        self._sent_epoch = self._map.epoch
        self._map.allocator.leases.review(self._present() | {self._settings.me.id}, self._keyring.live_epochs)
        for joined in self._joined.values():
            if joined.join.sender and self._map.allocator.leases.sender_id(joined.member.id) is None:
                self._map.allocator.lease_to_joiner(joined.join)  # no id was free when it joined
        group = self._map.as_sent(None, now)
        self._sender.publish(group, self._map.allocator.leases.in_use())
        for joined in (j for j in self._joined.values() if j.has_arrived):
            self._sender.update(joined, group, self._map.key_state_for(joined), is_stale=self._group_stale)
        self._group_stale = False
        self._keys_version = self._keyring.version
        self._next_flush = now + self._settings.timing.group_interval
        self.published, self.is_full = len(self.ids) + 1, self._has_no_place()
        self._map.levels.publish(joined.member for joined in self._joined.values())

    def _present(self) -> frozenset[str]:
        """Return the ids of the nodes with a joined session, confirmed or not."""
        return frozenset(j.member.id for j in self._joined.values())

    def _waited_for(self, now: float) -> list[Joined]:
        """Return the members, and the joiners that should confirm soon."""
        joined = self._joined.values()
        return [j for j in joined if j.has_arrived or not self.confirmations.is_overdue(j.member.id, now)]

    def _back_by(self, session: Session, now: float) -> float | None:
        """Return until when to await the node of a session that ends at `now`; None: do not await it."""
        joined = self._joined.get(session)
        if joined is None or (not joined.has_arrived and self.confirmations.is_overdue(joined.member.id, now)):
            return None
        return now + self._settings.timing.comes_within

    def _has_no_place(self) -> bool:
        return 1 + len(self._joined) + len(self.awaited) >= self._settings.max_members
