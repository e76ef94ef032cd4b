"""One node of a group: the one door of the core.

`handle(event, now)` takes what happened and returns what must be done, in order; `next_deadline()` says when to call
with `Timeout` at the latest. Times are seconds of any clock that only moves forward. Nothing here reads a clock, draws
a random number or touches a socket, so a simulator can put a whole group through anything, and a seed repeats it.

The node only carries things between its parts: `election` (what are we), `members` (who joined us), `keyring` (which
keys), `consumers` (who uses them here). Each part keeps one kind of truth, and after every event the node brings them
into line: keys that changed go to members and consumers, acknowledgements go up, the advert follows the role.
"""

from typing import assert_never

from pskkey.core.actions import Action, Advertise, Disconnect, GenerateKey, Notice, NoticeKind, Send, Stopped
from pskkey.core.consumers import Consumers
from pskkey.core.election import NOT_MASTER, Election
from pskkey.core.events import (
    Accepted,
    AdvertReceived,
    AdvertRemoved,
    Attached,
    Connected,
    Direction,
    Disconnected,
    Event,
    KeyGenerated,
    Received,
    RekeyRequested,
    Session,
    Started,
    StopRequested,
    Timeout,
)
from pskkey.core.keyring import Keyring
from pskkey.core.members import Members
from pskkey.core.peers import Peers
from pskkey.core.settings import Settings
from pskkey.model import (
    ErrorMessage,
    Group,
    Handover,
    Heartbeat,
    Join,
    KeyAck,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Member,
    Merge,
    Message,
    Role,
)


class Node:
    """A node and all that it knows. Not thread-safe; one owner calls it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._out: list[Action] = []
        self.peers = Peers(settings.timing)
        self.keyring = Keyring(settings.timing)
        self.members = Members(settings, self.keyring, self._out)
        self.consumers = Consumers(self._out)
        self.election = Election(settings, self.peers, self._out, self._join_message, self._merge_message)
        self._role = Role.LISTENING
        self._inbound: dict[Session, str] = {}
        self._handed_over: tuple[Member, ...] = ()
        self._acked_epoch = 0
        self._joined_as: Join | None = None
        self._advertised: Advertise | None = None
        self._next_beacon = 0.0
        self._last_now = float("-inf")
        self._stopping = False

    # --- the door -----------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take an event at time `now` (seconds) and return what must be done, in order."""
        slept = now - self._last_now
        self._last_now = now
        if self.election.role is Role.MASTER and slept > self._settings.timing.dead_after:
            self.election.slept(slept, now)
            self._follow_role(now)
        if not self._stopping:
            self._dispatch(event, now)
            self._reconcile(now)
        actions = list(self._out)
        self._out.clear()
        return actions

    def next_deadline(self) -> float | None:
        """Return when `handle(Timeout(), ...)` must be called at the latest; None: nothing is due."""
        now = self._last_now
        times = [self.election.next_deadline(now)]
        if self.election.role is Role.MASTER:
            times += [self.members.next_deadline(), self.keyring.lead_deadline(), self._next_beacon]
        else:
            times.append(self.keyring.follow_deadline())
        return min((t for t in times if t is not None), default=None)

    def key_state(self) -> KeyState:
        """Return the key state as session managers of this node may have it."""
        return self.members.my_key_state() if self.election.role is Role.MASTER else self.keyring.state()

    def group(self) -> Group | None:
        """Return the group as it is, as master, or as the master last told it."""
        return self.members.group() if self.election.role is Role.MASTER else self.election.group

    # --- what happened ------------------------------------------------------------------------------------------

    def _dispatch(self, event: Event, now: float) -> None:
        match event:
            case Started():
                self.election.listen(now)
            case Timeout():
                self._tick(now)
            case AdvertReceived(advert):
                if advert.id == self._settings.me.id:
                    self._duplicate(f"{advert.name} at {', '.join(advert.addresses)}")
                    return
                self.peers.learn(advert)
                self.election.advert(advert, now)
            case AdvertRemoved(node_id):
                self.peers.forget(node_id)
            case Connected(session):
                self.election.connected(session, now)
            case Accepted(session, address):
                self._inbound[session] = address
            case Attached(session, process):
                self.consumers.attach(session, process)
            case Disconnected(session, reason):
                self._disconnected(session, reason, now)
            case Received(session, message):
                self._received(session, message, now)
            case KeyGenerated(key):
                if self.election.role is Role.MASTER and self.keyring.install_fresh(key, now):
                    self.election.term_met(self.election.term)
            case RekeyRequested(reason):
                self._ask_for_new_key(reason)
            case StopRequested():
                self._stop()
            case _:
                assert_never(event)

    def _tick(self, now: float) -> None:
        self.election.tick(now)
        if self.election.role is Role.MASTER:
            self.keyring.lead_tick(now)
        else:
            self.keyring.follow_tick(now)

    def _disconnected(self, session: Session, reason: str, now: float) -> None:
        match session.direction:
            case Direction.OUTBOUND:
                self.election.disconnected(session, reason, now)
            case Direction.INBOUND:
                self._inbound.pop(session, None)
                self.members.lost(session, reason)
            case Direction.LOCAL:
                self.consumers.detach(session)
            case _:
                assert_never(session.direction)

    def _received(self, session: Session, message: Message, now: float) -> None:
        match session.direction:
            case Direction.OUTBOUND:
                if self.election.owns(session):
                    self._from_master(session, message, now)
            case Direction.INBOUND:
                if session in self._inbound:
                    self._from_client(session, message, now)
            case Direction.LOCAL:
                if self.consumers.has(session):
                    self._from_consumer(session, message)
            case _:
                assert_never(session.direction)

    def _from_master(self, session: Session, message: Message, now: float) -> None:
        self.election.heard(session, now)
        match message:
            case Group():
                self.election.group_received(session, message, now)
            case KeyState():
                if self.election.master_session == session:
                    self.keyring.adopt(message, now)
            case Heartbeat():
                pass
            case Handover():
                self._handed_over = message.members
                self.election.handed_over(session, message, now)
            case Merge():
                self.election.merge_answered(session, message, now)
            case ErrorMessage():
                if message.code == "duplicate_id":
                    self._duplicate(message.message)
                self.election.refused(session, message, now)
            case KeyRequest() | KeyResponse() | KeyWatch() | KeyAck() | KeyNew() | Join():
                self._protocol_error(session, message)
                self.election.disconnected(session, "it broke the protocol", now)
            case _:
                assert_never(message)

    def _from_client(self, session: Session, message: Message, now: float) -> None:
        self.members.heard(session, now)
        is_master = self.election.role is Role.MASTER
        joined = self.members.has(session)
        match message:
            case KeyRequest():
                self._answer_key_request(session)
            case Join() if is_master:
                if self.election.term_met(message.term):
                    self.members.set_term(self.election.term)
                if self.members.join(session, message, self._inbound[session], now):
                    self.keyring.roll()
                if joined or self.members.has(session):
                    self._meet_foreign_keys(message)
            case Merge() if is_master:
                self.election.merge_asked(session, message, now)
            case Join() | Merge():
                text = f"{self._settings.me.name} is not the master now"
                self._out.append(Disconnect(session, ErrorMessage(NOT_MASTER, text)))
                self._inbound.pop(session, None)
            case Heartbeat() if joined:
                pass
            case KeyAck() if joined:
                self.members.acknowledge(session, message)
            case KeyNew() if joined:
                self._ask_for_new_key(message.reason)
            case ErrorMessage():
                self._out.append(Disconnect(session))
                self._inbound.pop(session, None)
                self.members.lost(session, message.message)
            case Heartbeat() | KeyAck() | KeyNew() | KeyResponse() | KeyState() | KeyWatch() | Group() | Handover():
                self._protocol_error(session, message)
                self._inbound.pop(session, None)
                self.members.lost(session, "it broke the protocol")
            case _:
                assert_never(message)

    def _from_consumer(self, session: Session, message: Message) -> None:
        match message:
            case KeyRequest():
                self._answer_key_request(session)
            case KeyWatch(will_send):
                current = self.keyring.current
                if self.consumers.watch(session, current.epoch if current else 0, will_send=will_send):
                    self._ask_for_new_key(KeyNewReason.SENDER_RESTARTED)
            case KeyAck(epoch):
                self.consumers.acknowledge(session, epoch)
            case KeyNew(reason):
                self._ask_for_new_key(reason)
            case Heartbeat():
                self._out.append(Send(session, Heartbeat()))
            case ErrorMessage():
                self._out.append(Disconnect(session))
                self.consumers.detach(session)
            case KeyResponse() | KeyState() | Join() | Group() | Merge() | Handover():
                self._protocol_error(session, message)
                self.consumers.detach(session)
            case _:
                assert_never(message)

    # --- bringing the parts into line ---------------------------------------------------------------------------

    def _reconcile(self, now: float) -> None:
        self._follow_role(now)
        if self.election.role is Role.MASTER:
            self._lead(now)
        else:
            self._acknowledge_upwards()
        self.consumers.deliver(self.key_state())
        self._advertise(now)

    def _advertise(self, now: float) -> None:
        role = self.election.role
        advert = Advertise(role, self.election.term, self.members.published)
        # A master repeats itself: who was cut off meanwhile has missed that it is master, and mDNS would not say again.
        beacon_due = role is Role.MASTER and now >= self._next_beacon
        if advert != self._advertised or beacon_due:
            self._advertised = advert
            self._next_beacon = now + self._settings.timing.beacon_interval
            self._out.append(advert)

    def _follow_role(self, now: float) -> None:
        was, self._role = self._role, self.election.role
        if was is not Role.MASTER and self._role is Role.MASTER:
            group = self.election.group
            last = self._handed_over or (group.members if group else ())
            state = self.keyring.state() if last else None
            self.keyring.lead(now)
            self.members.found(self.election.term, last, state, sends=self.consumers.sends, now=now)
        elif was is Role.MASTER and self._role is not Role.MASTER:
            self.keyring.follow(self.members.my_key_state(), now)
            self.members.dissolve(self.election.yield_to)
            self.election.yield_to = None
        self._handed_over = ()

    def _lead(self, now: float) -> None:
        election, keyring, members = self.election, self.keyring, self.members
        if election.roll_above is not None:
            keyring.roll(election.roll_above)
            election.roll_above = None
        election.meet_rivals(members.ids, now)
        coming = keyring.next
        if coming and members.all_acknowledged(coming.epoch) and self.consumers.all_acknowledged(coming.epoch):
            keyring.activate(now)
        if keyring.wants_key(now):
            self._out.append(GenerateKey())
        members.set_term(election.term)
        members.tick(now)

    def _acknowledge_upwards(self) -> None:
        session = self.election.master_session
        if session is None:
            self._acked_epoch, self._joined_as = 0, None
            return
        newest = self.keyring.highest_epoch
        if newest not in (0, self._acked_epoch) and self.consumers.all_acknowledged(newest):
            self._acked_epoch = newest
            self._out.append(Send(session, KeyAck(newest)))
        said = self._joined_as
        if said is not None and said.sender != self.consumers.sends:
            self._out.append(Send(session, self._join_message()))

    def _ask_for_new_key(self, reason: KeyNewReason) -> None:
        if self.election.role is Role.MASTER:
            self._out.append(Notice(NoticeKind.REKEY_STARTED, f"rolling to a new key: {reason.name.lower()}"))
            self.keyring.roll()
        elif (session := self.election.master_session) is not None:
            self._out.append(Send(session, KeyNew(reason)))

    def _meet_foreign_keys(self, join: Join) -> None:
        mine = {(e.epoch, e.key.fingerprint) for e in self.keyring.entries}
        for held in join.held:
            if held.send and (held.epoch, held.fingerprint) not in mine:
                text = f"{join.member.name} comes with another group's key, epoch {held.epoch}: rolling above both"
                self._out.append(Notice(NoticeKind.REKEY_STARTED, text, {"peer": join.member.id}))
                self.keyring.roll(above=max(h.epoch for h in join.held))
                return

    def _answer_key_request(self, session: Session) -> None:
        current = self.keyring.current
        if current is not None:
            self._out.append(Send(session, KeyResponse(current.key)))
            return
        self._out.append(Disconnect(session, ErrorMessage("no_key", "this node holds no key yet; try again shortly")))
        self._inbound.pop(session, None)
        self.consumers.detach(session)

    # --- what we say --------------------------------------------------------------------------------------------

    def _join_message(self) -> Join:
        settings = self._settings
        self._joined_as = Join(
            group=settings.group,
            member=settings.me,
            instance=settings.instance,
            term=self.election.term,
            held=self.keyring.held(),
            sender=self.consumers.sends,
            version=settings.version,
        )
        return self._joined_as

    def _merge_message(self) -> Merge:
        return Merge(self._settings.me, self.election.term, self.members.count, self.keyring.highest_epoch)

    def _stop(self) -> None:
        self._stopping = True
        if self.election.role is Role.MASTER:
            group = self.members.group()
            heirs = [m for m in group.members if m.id in group.succession[:1]]
            self.members.dissolve(Handover(heirs[0], self.election.term + 1) if heirs else None)
        elif (session := self.election.master_session) is not None:
            self._out.append(Disconnect(session))
        self._out.append(Stopped())

    def _duplicate(self, other: str) -> None:
        text = (
            f"node id {self._settings.me.id} is also claimed elsewhere: {other}; set a different node.id on one of them"
        )
        self._out.append(Notice(NoticeKind.DUPLICATE_ID, text))

    def _protocol_error(self, session: Session, message: Message) -> None:
        name = type(message).__name__
        self._out.append(Notice(NoticeKind.PROTOCOL_ERROR, f"unexpected {name} on a session; closed it"))
        error = ErrorMessage("protocol", f"{name} is not expected here")
        self._out.append(Disconnect(session, error))
