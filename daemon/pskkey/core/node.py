"""One node of a group: the only interface of the core.

`Node.handle(event, now)` takes an event and returns the actions to perform, in order. `Node.next_deadline()` returns
the latest time for the next `Timeout`. Times are seconds of any clock that never goes back. The core reads no clock,
draws no random number and opens no socket, so a simulator can run a whole group, and a seed repeats the run.

The node connects its parts: `election` (the role), `members` (the members of this master), `keyring` (the keys),
`managers` (the local session managers) and `handler` (the meaning of each message). Each part owns one kind of state.
After every event the node synchronizes them: it sends keys and acknowledgements, and announces its new role.

`saved_state()` is the persisted state. The driver stores it before it performs the actions. The next process of this
node begins with it, like a node that was disconnected for a while. It has its keys, its lease, and the record of which
sequence context sent with which key. It only has to find its group again.
"""

from dataclasses import replace
from typing import assert_never

from pskkey.core import events
from pskkey.core.actions import Action, GenerateKey, Send, Stopped
from pskkey.core.addresses import AddressBook
from pskkey.core.announcements import Announcements
from pskkey.core.departures import Departures
from pskkey.core.election import Election
from pskkey.core.events import Event
from pskkey.core.expiry import KeyExpiry
from pskkey.core.freshness import Freshness
from pskkey.core.key_needs import KeyNeeds
from pskkey.core.key_notices import KeyNotices
from pskkey.core.keyring import Keyring
from pskkey.core.known_group import KnownGroup
from pskkey.core.leases import leases_of
from pskkey.core.members import Members
from pskkey.core.message_handler import MessageHandler
from pskkey.core.notices import KeyDistributed, NodesLeft, SuiteChanged
from pskkey.core.peers import Peers
from pskkey.core.persistence import begin_with, saved_by
from pskkey.core.preemption import find_better_master
from pskkey.core.rekey import Reason, Rekey
from pskkey.core.rekey_requests import OPERATOR, RekeyRequests
from pskkey.core.session_managers import SessionManagers
from pskkey.core.settings import MOST_UNREAD, Settings
from pskkey.core.transitions import GroupReceived, Leading, MergeWon, SteppedDown, Transition, WithoutMaster
from pskkey.core.view import NodeView, view_of
from pskkey.model import (
    Advert,
    Group,
    Handover,
    Join,
    Key,
    KeyAck,
    KeyNew,
    KeyNewReason,
    KeyState,
    Member,
    Merge,
    Role,
    SavedState,
)


class Node:
    """A node with all its state. Not thread-safe: one owner calls it."""

    def __init__(self, settings: Settings, saved: SavedState | None = None) -> None:
        """Begin with the persisted state of an earlier process, `saved`. Ignore the state of another node or group."""
        saved = begin_with(saved, settings)
        self._settings = settings
        self._out: list[Action] = []
        self._peers = Peers(settings)
        self._book = book = AddressBook(settings)
        self._keyring = Keyring(settings, saved.ring)
        self._members = Members(settings, self._keyring, self._out)
        self._managers = SessionManagers(settings, self._out, saved.sent_with, saved.managers)
        self._known = known = KnownGroup(settings, saved.members)
        self._election = Election(
            settings, self._peers, book, known, self._out, self._join_message, self._merge_message
        )
        self._election.term = saved.term
        self._requests = requests = RekeyRequests(settings, self._keyring)
        self._departures = Departures(settings, self._keyring, (node for node, _ in saved.members))
        self._rekey = rekey = Rekey(settings, self._keyring, requests, self._departures)
        parts = (self._election, self._members, self._keyring, self._managers)
        self._needs = KeyNeeds(settings, *parts, requests, rekey, self._out)
        self._expiry = KeyExpiry(settings, self._keyring, saved.without_master_since)
        self._handler = MessageHandler(settings, self._peers, known, *parts, self._needs, self._expiry, self._out)
        self._freshness = Freshness(settings.nonce)
        self._announcements = Announcements(settings, self._freshness, self._out)
        self._notices = KeyNotices(self._out)
        self._last_now = float("-inf")
        self._due: float | None = None
        self._stopping = False
        self._view: NodeView | None = None

    # --- interface ----------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        """Handle `event` at time `now` (seconds) and return the actions to perform, in order."""
        late = 0.0 if self._due is None else now - self._due
        has_slept = late > self._settings.timing.dead_after
        awake_since, self._last_now = self._last_now if has_slept else now, now
        if isinstance(event, events.Timeout):
            unread = min(event.unread, MOST_UNREAD * self._settings.timing.dead_after)
            self._election.read_until = max(self._election.read_until, now - unread)
        if has_slept:
            self._apply(self._election.restart_after_sleep(late, now), now)
        if (answers := self._handler.take_heartbeat(event, now)) is not None:
            return answers  # a heartbeat causes nothing else before the next deadline, and changes no view
        self._view = None
        if not self._stopping:
            self._dispatch(event, now)
        has_master = self._has_master and not self._stopping
        self._expiry.update(now, has_master=has_master, awake_since=awake_since)
        if not self._stopping:
            self._reconcile(now)
        # A deadline in the past becomes now. Else a node with an old persisted state would seem to have slept.
        self._due = None if (deadline := self._next_deadline()) is None else max(deadline, now)
        actions = list(self._out)
        self._out.clear()
        return actions

    def next_deadline(self) -> float | None:
        """Return the latest time for the next `handle(events.Timeout(), ...)`; None: nothing is due."""
        return self._due

    def _next_deadline(self) -> float | None:
        times = [self._election.next_deadline(self._last_now), self._managers.next_deadline()]
        times += [self._requests.next_deadline(self._last_now), self._expiry.next_deadline()]
        if self._election.role is Role.MASTER:
            times += [self._members.next_deadline(), self._keyring.deadline_as_master()]
            times += [self._announcements.due_as_master(), self._rekey.next_deadline(self._last_now)]
        else:
            times += [self._keyring.deadline_as_follower(), self._known.next_deadline(self._last_now)]
        if self._election.role is Role.LISTENING:
            times.append(self._freshness.renews_at)
        if self._handler.has_waiting_joins:
            times.append(self._last_now)
        return min((t for t in times if t is not None), default=None)

    def view(self) -> NodeView:
        """Return the frozen view of the node."""
        if self._view is None:
            parts = (self._settings, self._election, self._peers, self._members, self._handler, self._expiry)
            self._view = view_of(self._keyring, self._managers, *parts, self._last_now)
        return self._view

    def saved_state(self) -> SavedState:
        """Return the state that the next process of this node needs."""
        master_state = self._members.my_key_state() if self._election.role is Role.MASTER else None
        settings, ring = self._settings, self._keyring.saved(master_state)
        return saved_by(settings, self._election.term, ring, self._known, self._managers, self._expiry)

    def key_state(self) -> KeyState:
        """Return the key state for the session managers of this node."""
        is_master = self._election.role is Role.MASTER
        return self._expiry.limit(self._members.my_key_state() if is_master else self._keyring.state())

    def pending_requests(self) -> list[tuple[KeyNewReason, float]]:
        """Return the reason and the due time (seconds) of each open rekey request."""
        return self._requests.pending()

    def group(self) -> Group | None:
        """Return the group that this node leads, or has received or led last; None if there was none."""
        return self._members.group if self._election.role is Role.MASTER else self._known.latest

    # --- events -------------------------------------------------------------------------------------------------

    def _dispatch(self, event: Event, now: float) -> None:
        match event:
            case events.Started():
                self._keyring.restart(now)
                self._managers.begin(now)
                if self._election.role is Role.LISTENING:  # else the node already joins a master
                    self._apply(self._election.listen(now), now)
            case events.Timeout():
                self._tick(now)
            case events.AdvertReceived(advert, source):
                self._book.note_source(advert, source)
                self._hear(advert, now)
            case events.PskChanged(active, accepted):
                self._peers.psk_changed()
                self._election.outbound.psk_changed(active, accepted, now)
                if self._election.role is Role.LISTENING:
                    self._apply(self._election.listen(now), now)
                self._announcements.announce_again()
            case events.Connected(session, psk, address):
                self._election.greet(session, psk, address, now)
            case events.OtherNodeAnswered(peer, address):
                self._book.note_other_node(peer, address)
            case events.Accepted():
                self._handler.accepted(event)
            case events.Attached(session, process):
                self._handler.attached(session, process)
            case events.Disconnected(session, reason, code):
                self._apply(self._handler.disconnected(session, code, reason, now), now)
            case events.Received(session, message):
                self._apply(self._handler.received(session, message, now), now)
            case events.KeyGenerated(key):
                if self._election.role is Role.MASTER and self._rekey.is_generating:
                    self._install_fresh(key, now)
            case events.AddressesChanged(addresses, prefixes):
                self._book.set_prefixes(prefixes)
                if addresses != self._settings.me.addresses:
                    self._change_me(replace(self._settings.me, addresses=addresses), now)
            case events.SettingsChanged():
                self._change_settings(event, now)
            case events.RekeyRequested(reason):
                self._needs.request(OPERATOR, reason, now)
            case events.SwitchoverRequested(successor):
                self._switch_over(successor, now)
            case events.StopRequested():
                self._stop()
            case _:
                assert_never(event)

    def _hear(self, advert: Advert, now: float) -> None:
        is_proof = self._freshness.is_proof(advert, now)
        if advert.challenge:
            self._freshness.note(advert.challenge, now, is_of_master=advert.role is Role.MASTER)
        if advert.id != self._settings.me.id:
            self._peers.learn(advert, now, is_proof=is_proof)
            self._apply(self._election.take_advert(advert, now), now)
        elif is_proof:  # without proof it may be an old advert of this node
            self._handler.duplicates.report(f"{advert.name} at {', '.join(advert.addresses)}", now)

    def _tick(self, now: float) -> None:
        self._managers.tick(now)
        self._apply(self._election.tick(now), now)
        self._apply(self._handler.take_waiting(now), now)
        if self._election.role is Role.MASTER:
            self._keyring.tick_as_master(now)
        else:
            self._keyring.tick_as_follower(now)

    def _change_settings(self, new: events.SettingsChanged, now: float) -> None:
        self._settings.change(
            new.max_members, new.members_per_address, new.preempt, new.timing, new.suite, new.key_requests
        )
        me = replace(self._settings.me, name=new.name, priority=new.priority, eligible=new.eligible)
        self._change_me(me, now)
        if not me.eligible:
            self._switch_over(None, now)

    def _change_me(self, me: Member, now: float) -> None:
        self._settings.me = me
        self._members.announce_changed_master(now)
        self._election.outbound.beat(now)

    # --- transitions of the election ----------------------------------------------------------------------------

    def _apply(self, transitions: list[Transition], now: float) -> None:
        for transition in transitions:
            match transition:
                case Leading(inherited):
                    self._become_master(inherited, now)
                case SteppedDown(handover):
                    self._step_down(handover, now)
                case WithoutMaster():
                    self._known.record_lost_master(now)
                case GroupReceived(group, senders, settles):
                    self._known.received(group)
                    if senders is not None:
                        self._keyring.adopt_senders(senders)
                    if settles is not None and self._known.settle(settles, now) is not None:
                        self._keyring.note_group(group, now)
                case MergeWon(master):
                    self._members.expect(master, now)
                case _:
                    assert_never(transition)

    def _become_master(self, inherited: tuple[Member, ...], now: float) -> None:
        """Change all parts to the role of master. `inherited`: the members in the HANDOVER of the last master."""
        # If this node sends with a former key, the leases that it knows belong to another key.
        leases = () if self._keyring.sends_former_key else leases_of(inherited) or self._known.leases
        awaited = self._known.expected(now) | {m.id for m in inherited if m.id != self._settings.me.id}
        state = self._keyring.state()
        self._keyring.begin_to_lead(now)
        self._rekey.begin(now)
        members = (*(self._known.latest.members if self._known.latest else ()), *inherited)
        self._members.levels.begin(members)
        self._members.begin_term(self._election.term, self._known.latest, leases, awaited, state, now)

    def _step_down(self, handover: Handover | None, now: float) -> None:
        """Change all parts to the role of a follower. Send `handover` to the members; None: there is no successor."""
        self._keyring.begin_to_follow(self._members.my_key_state(), now)
        self._known.end_mastership(self._members.group, self._members.awaited, self._members.yielded, now)
        self._members.dissolve(handover)

    # --- synchronizing the parts --------------------------------------------------------------------------------

    def _reconcile(self, now: float) -> None:
        if self._election.role is Role.MASTER:
            self._act_as_master(now)
        else:
            self._act_as_follower(now)
        self._notices.sending_with(self._keyring.current)
        self._managers.deliver(self.key_state(), now)
        members, election = self._members, self._election
        me = members.levels.as_group if election.role is Role.MASTER else self._settings.me
        self._announcements.masters = self._peers.count_proven_masters(now) if election.role is Role.MASTER else 0
        self._announcements.announce(me, election.role, election.term, members.published, now, is_full=members.is_full)

    def _install_fresh(self, key: Key, now: float) -> None:
        if self._rekey.install(key, now):
            self._election.term += 1  # the epochs start again at 1, so the term must rise
        if (coming := self._keyring.next) is not None:
            self._out.append(KeyDistributed(coming.epoch, coming.key.fingerprint))

    @property
    def _has_master(self) -> bool:
        """Whether this node is master, or has the key list of its master."""
        link = self._election.master_link
        return self._election.role is Role.MASTER or (link is not None and self._known.settled_in == link.session)

    def _act_as_master(self, now: float) -> None:
        election, keyring, members = self._election, self._keyring, self._members
        if self._departures.observe_members(members.ids, now):
            members.announce_changed_master(now)
        if self._managers.sends:
            members.lease_to_me()
        self._needs.request_for_senders(now)
        election.ask_rival(members.ids, now)
        coming = keyring.next
        held = coming and members.all_acknowledged(coming.epoch, now) and self._managers.all_acknowledged(coming, now)
        if held and not self._peers.has_rival(members.ids, self._rekey.leads_since, now):
            keyring.activate(now)
        if reasons := self._rekey.starts(now):
            if Reason.SUITE in reasons and keyring.current is not None:
                self._out.append(SuiteChanged(keyring.current.key.suite, self._settings.suite))
            if Reason.LEFT in reasons:
                self._out.append(NodesLeft(self._departures.describe_left()))
            self._out.append(GenerateKey(self._settings.suite))
        members.set_term(election.term)
        members.tick(now, self._election.read_until)
        self._known.record_led_group(members.last_sent, now)
        if keyring.next is None and (better := find_better_master(self._settings, members, self._peers, now)):
            self._switch_over(better.id, now)

    def _act_as_follower(self, now: float) -> None:
        link = self._election.master_link
        if link is None:
            self._requests.master_lost()
            return
        self._notices.leased(self._settings.me.sender_id, self._keyring.state().sender_id)
        if (group := self._known.latest) is not None:
            self._departures.observe_group(group, now)
        # Before the first KEY_STATE of this session, the master may have another key under the same epoch.
        newest = self._keyring.newest_listed if self._known.settled_in == link.session else None
        if (
            newest
            and newest.key.fingerprint != link.acked
            and self._managers.all_acknowledged(newest, now)
            and not self._known.transitional(now)
        ):
            link.acked = newest.key.fingerprint
            self._out.append(Send(link.session, KeyAck(newest.epoch)))
        if link.joined_as is not None and link.joined_as.is_outdated_by(self._join_without_map()):
            self._election.outbound.greet(link, self._join_message())
        self._needs.request_for_senders(now)
        self._out.extend(Send(link.session, KeyNew(reason)) for reason in self._requests.to_send(now))

    # --- messages of this node ----------------------------------------------------------------------------------

    def _join_message(self) -> Join:
        """Return a JOIN that is sent now. It names the map of the group, which costs time."""
        return replace(self._join_without_map(), knows=self._known.name_map())

    def _join_without_map(self) -> Join:
        settings = self._settings
        return Join(
            group=settings.group,
            member=settings.me,
            incarnation=settings.incarnation,
            term=self._election.term,
            held=self._keyring.held(),
            sender=self._managers.sends,
            lease=self.key_state().sender_id,
            times=settings.timing.times,
        )

    def _merge_message(self) -> Merge:
        newest = self._keyring.newest
        epoch, members = newest.epoch if newest else 0, self._members
        return Merge(members.levels.as_group, self._election.term, len(members.ids) + 1, epoch)

    def _switch_over(self, successor: str | None, now: float) -> None:
        """As master, hand over to the member `successor`; None: to the first in the succession. If none, do nothing."""
        member = self._members.successor(successor) if self._election.role is Role.MASTER else None
        if member is not None:
            self._apply(self._election.step_down(member, now), now)

    def _stop(self) -> None:
        self._stopping = True
        if self._election.role is Role.MASTER:
            group = self._members.group
            successors = [m for m in group.members if m.id in group.succession[:1]]
            self._members.dissolve(Handover(successors[0], self._election.term + 1) if successors else None)
        else:
            self._election.outbound.drop()
        self._out.append(Stopped())
