"""One device: our daemon's core and its session manager, which sends and acknowledges at once.

`step` gives a device one input and returns its outputs. The device provides a new key at once when the core asks for
one. The session manager installs and acknowledges each KEY_STATE at once. So a step ends when only the network can go
on. The guarantees within one device are checked here after every step: `Broken` names the guarantee.
"""

from collections import deque
from typing import Final, NamedTuple

from pskkey.core import events
from pskkey.core.actions import Action, Advertise, Connect, Disconnect, GenerateKey, Send, Stopped
from pskkey.core.events import Direction, Event, Session
from pskkey.core.node import Node
from pskkey.core.notices import Notice
from pskkey.core.settings import Settings, Timing
from pskkey.core.view import NodeView
from pskkey.daemon.event_table import EVENT_OF, sentence
from pskkey.model import (
    MAX_EPOCH,
    MAX_KEY_ENTRIES,
    Key,
    KeyAck,
    KeyNewReason,
    KeyState,
    KeyWatch,
    Member,
    Process,
    Role,
    SavedState,
    Suite,
)
from pskkey.secret import Secret
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from tests.explore.snapshot import EPOCH, MICROSECONDS, number_of, value_of

GROUP: Final = "explored"
PORT: Final = 11111

CALLS_AT_ONCE: Final = 20
"""How often a node may be due again at the time of its last call. A node waits, and does not spin."""


class Broken(AssertionError):
    """A guarantee does not hold. The text begins with the name of the guarantee."""

    def __init__(self, guarantee: str, text: str) -> None:
        super().__init__(f"{guarantee}: {text}")
        self.guarantee = guarantee


class Input(NamedTuple):
    """An input to a device. `number`: the number of a session or of an advert; `data`: a packet or an address."""

    what: str
    number: int = 0
    data: bytes | str | None = None


class Output(NamedTuple):
    """An output of a device: `send`, `connect`, `close`, `advert`, or `note`, a line of the transcript.

    `number`: the number of a session or of an advert; `data`: a packet, the id of a node, or the line.
    """

    what: str
    direction: Direction = Direction.OUTBOUND
    number: int = 0
    data: bytes | str | None = None
    timeout: int = 0
    """Microseconds."""


class Facts(NamedTuple):
    """The visible state of a device, for the checks. Keys are fingerprints."""

    role: Role | None = None
    """None: its daemon does not run."""
    has_power: bool = False
    incarnation: int = 0
    term: int = 0
    master: str | None = None
    session: int | None = None
    """The number of the outbound session with its master."""
    sends: tuple[str, int] | None = None
    """The key and the sender id with which its session manager sends."""
    knows: tuple[tuple[int, str], ...] = ()
    """The epochs and keys with which its session manager receives."""
    context: int = 0
    """The sequence context of its session manager."""
    group: tuple[tuple[str, int | None, int | None], ...] = ()
    """As master: the members with their sender ids and the epochs that they have acknowledged."""
    held_keys: tuple[tuple[int, str], ...] = ()
    """The epochs and keys that its core holds, the oldest first."""
    current: str | None = None
    is_settled: bool = True
    """It has no next key."""
    forced: frozenset[str] = frozenset()
    """As master: the keys that it has activated at the activation deadline."""
    used_as_master: frozenset[str] = frozenset()
    """As master: the keys that it has sent with since it became master."""
    due: int | None = None
    """The deadline of its core: microseconds after the last step."""


def member(number: int) -> Member:
    """Return the node with this number, 1 to 3, as its group knows it."""
    return Member(f"{number:032x}", f"n{number}", (f"10.0.0.{number}",), PORT)


class Device:
    """The state of one device between two steps."""

    def __init__(self, number: int, make_node: type[Node] = Node) -> None:
        """Make a device that does not run yet. A test may give a defective node, to see that the defect is found."""
        self.number = number
        self.make_node = make_node
        self.at = EPOCH
        self.node: Node | None = None
        self.saved: SavedState | None = None
        self.has_power = False
        self.incarnation = 0
        self.keys_made = 0
        self.power_losses = 0
        """How often the device has lost its power. Each time the session manager loses its sequence numbers."""
        self.knows: tuple[tuple[int, str], ...] = ()
        self.sends: tuple[str, int] | None = None
        self.sessions: set[Session] = set()
        self.keys_of_epochs: dict[int, str] = {}
        """As master of the present term: the key of each epoch."""
        self.sent_epoch = 0
        self.term = 0
        self.forced: frozenset[str] = frozenset()
        self.used_as_master: frozenset[str] = frozenset()
        self._inputs: deque[Event] = deque()
        self._outputs: list[Output] = []

    # --- a step -------------------------------------------------------------------------------------------------

    def step(self, cause: Input, at: float) -> list[Output]:
        """Give the device an input at time `at`, and return its outputs. Raises Broken."""
        self.at = at
        outputs: list[Output] = []
        self._outputs = outputs
        match cause.what:
            case "start":
                self._start()
            case "die" | "lose power":
                self._end(is_forgotten=cause.what == "lose power")
            case _:
                self._inputs.extend(self._events_of(cause))
        self._run()
        self._outputs = []
        return outputs

    def _run(self) -> None:
        while self._inputs:
            self._handle(self._inputs.popleft())
        for _ in range(CALLS_AT_ONCE):
            due = None if self.node is None else self.node.next_deadline()
            if due is None or due > self.at:
                return
            self._handle(events.Timeout())
            while self._inputs:
                self._handle(self._inputs.popleft())
        raise Broken("waits", f"n{self.number} is due again at once, {CALLS_AT_ONCE} times")

    def _events_of(self, cause: Input) -> list[Event]:
        data = cause.data
        match cause.what:
            case "time":
                return [events.Timeout()]
            case "advert":
                return [events.AdvertReceived(value_of(cause.number))]
            case "connected":
                return [events.Connected(Session(Direction.OUTBOUND, cause.number))]
            case "failed" | "ended":
                return [events.Disconnected(self._ended_session(Direction.OUTBOUND, cause.number), "it is over")]
            case "accepted" if isinstance(data, str):
                session = Session(Direction.INBOUND, cause.number)
                self.sessions.add(session)
                return [events.Accepted(session, data)]
            case "left":
                return [events.Disconnected(self._ended_session(Direction.INBOUND, cause.number), "it is over")]
            case "answer" if isinstance(data, bytes):
                return self._received(Session(Direction.OUTBOUND, cause.number), data, Side.CLIENT)
            case "request" if isinstance(data, bytes):
                return self._received(Session(Direction.INBOUND, cause.number), data, Side.SERVER)
            case "rekey":
                return [events.RekeyRequested(KeyNewReason.OPERATOR)]
            case "switchover":
                return [events.SwitchoverRequested()]
            case _:
                raise ValueError(cause)

    def _ended_session(self, direction: Direction, number: int) -> Session:
        session = Session(direction, number)
        self.sessions.discard(session)
        return session

    def _received(self, session: Session, data: bytes, side: Side) -> list[Event]:
        messages = PacketReader(Channel.TLS, side).receive_untrusted(data)
        return [events.Received(session, message) for message in messages]

    # --- its processes ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.has_power = True
        self.incarnation += 1
        name = f"n{self.number}-{self.incarnation}"
        settings = Settings(GROUP, member(self.number), name, f"{name}-", timing=Timing())
        before = self.saved.term if self.saved is not None else 0
        self.node, self.saved, self.term = self.make_node(settings, self.saved), None, before
        session = Session(Direction.LOCAL, self.incarnation)
        self.sessions.add(session)
        self._inputs.append(events.Started())
        self._inputs.append(events.Attached(session, Process(1000 + self.number, 0)))
        self._inputs.append(events.Received(session, KeyWatch(will_send=True, context=self.context)))

    def _end(self, *, is_forgotten: bool) -> None:
        assert self.node is not None
        self.saved = None if is_forgotten else self.node.saved_state()
        self.node = None
        self.sessions.clear()
        self.keys_of_epochs, self.sent_epoch = {}, 0
        self.forced = self.used_as_master = frozenset()
        if is_forgotten:
            self.has_power = False
            self.power_losses += 1
            self.knows, self.sends = (), None

    @property
    def context(self) -> int:
        """The sequence context of the session manager."""
        return 1000 * self.number + self.power_losses + 1

    # --- actions of the core ------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        node = self.node
        if node is None:
            return
        before = node.view()
        try:
            actions = node.handle(event, self.at)
        except Exception as error:
            raise Broken("no exception", f"n{self.number} raises {error!r} on {event}") from error
        for action in actions:
            self._perform(action)
        self._check(before, node.view())

    def _perform(self, action: Action) -> None:
        match action:
            case Send(session, message):
                if session not in self.sessions:
                    raise Broken("open sessions", f"n{self.number} sends {message} on {session}, which is not open")
                if isinstance(message, KeyState):
                    check_key_state(self.number, message)
                if session.direction is not Direction.LOCAL:
                    self._put("send", session, encode(message))
                elif isinstance(message, KeyState):
                    self._install(session, message)
            case Connect(session, peer, _, _, timeout):
                self.sessions.add(session)
                self._outputs.append(
                    Output("connect", session.direction, session.number, peer, round(timeout * MICROSECONDS))
                )
            case Disconnect(session, error):
                self.sessions.discard(session)
                self._put("close", session, None if error is None else encode(error))
            case Advertise(_, False):
                pass  # it is not announced
            case Advertise(advert):
                self._outputs.append(Output("advert", number=number_of(advert)))
            case GenerateKey():
                self._inputs.append(events.KeyGenerated(self._fresh_key()))
            case Notice():
                self._outputs.append(Output("note", data=f"{EVENT_OF[type(action)]}: {sentence(action)}"))
            case Stopped():
                raise AssertionError("it stopped without a request")

    def _put(self, what: str, session: Session, data: bytes | None) -> None:
        self._outputs.append(Output(what, session.direction, session.number, data))

    def _fresh_key(self) -> Key:
        """Return a key that has never been made before. It does not depend on the steps of other devices."""
        self.keys_made += 1
        name = self.number.to_bytes(1) + self.keys_made.to_bytes(3)
        return Key(
            Secret(b"\xfe\xfd" + name.ljust(46, b"\1") + bytes(16)), bytes(32), name.ljust(32, b"\0"), Suite(0xCCAB)
        )

    def _install(self, session: Session, state: KeyState) -> None:
        listed = tuple((e.epoch, e.key.fingerprint) for e in state.entries if e.receive)
        marked = next((e.key.fingerprint for e in state.entries if e.send), None)
        fresh = [one for one in listed if one not in self.knows]
        self.knows = listed
        self.sends = None if marked is None or state.sender_id is None else (marked, state.sender_id)
        self._inputs.extend(events.Received(session, KeyAck(epoch)) for epoch, _ in fresh)

    # --- checks -------------------------------------------------------------------------------------------------

    def _check(self, before: NodeView, view: NodeView) -> None:
        node, name = self.node, f"n{self.number}"
        assert node is not None
        if view.term < self.term:
            raise Broken("terms", f"{name}: the term fell from {self.term} to {view.term}")
        if node.next_deadline() is None and view.role is not Role.CLIENT:
            raise Broken("waits", f"{name} is {view.role} and waits for nothing: it gave up")
        check_key_state(self.number, node.key_state())
        if view.term > self.term or view.role is not Role.MASTER:
            self.keys_of_epochs, self.sent_epoch = {}, 0
        if view.role is not Role.MASTER:
            self.forced = self.used_as_master = frozenset()
        self.term = view.term
        if view.role is Role.MASTER:
            self._check_master(name, before, view)

    def _check_master(self, name: str, before: NodeView, view: NodeView) -> None:
        for key in view.keys:
            if self.keys_of_epochs.setdefault(key.epoch, key.key.fingerprint) != key.key.fingerprint:
                raise Broken("epochs", f"{name}: two keys are epoch {key.epoch} of its term {view.term}")
        current = view.current
        if current is None:
            return
        if current.epoch < self.sent_epoch <= MAX_EPOCH // 2:
            raise Broken("epochs", f"{name}: its epoch fell from {self.sent_epoch} to {current.epoch}")
        self.sent_epoch = current.epoch
        self.used_as_master |= {current.key.fingerprint}
        coming = before.next if before.role is Role.MASTER else None
        if coming is None or coming.key.fingerprint != current.key.fingerprint:
            return
        if self.at >= coming.since + Timing().activation_deadline:
            self.forced |= {current.key.fingerprint}
            return
        assert self.node is not None
        group = self.node.group()
        acked = {m.name: m.acked_epoch for m in group.members} if group is not None else {}
        if set(acked.values()) - {None, current.epoch}:
            raise Broken("activation", f"{name} sends with epoch {current.epoch}, and has acknowledgements of {acked}")

    def facts(self) -> Facts:
        """Return the visible state of the device."""
        node = self.node
        of_manager = Facts(
            has_power=self.has_power,
            incarnation=self.incarnation,
            sends=self.sends,
            knows=self.knows,
            context=self.context,
        )
        if node is None:
            return of_manager
        view, group, due = node.view(), node.group(), node.next_deadline()
        leads = view.role is Role.MASTER
        return of_manager._replace(
            role=view.role,
            term=view.term,
            master=view.master.id if view.master else None,
            session=view.master_session.number if view.master_session else None,
            group=tuple((m.id, m.sender_id, m.acked_epoch) for m in group.members) if group and leads else (),
            held_keys=tuple((key.epoch, key.key.fingerprint) for key in view.keys),
            current=view.current.key.fingerprint if view.current else None,
            is_settled=view.next is None,
            forced=self.forced,
            used_as_master=self.used_as_master,
            due=None if due is None else round((due - self.at) * MICROSECONDS),
        )


def check_key_state(number: int, state: KeyState) -> None:
    """Check that a KEY_STATE has few entries, one at most of each epoch, and one at most to send with."""
    epochs = [entry.epoch for entry in state.entries]
    if len(epochs) > MAX_KEY_ENTRIES:
        raise Broken("key states", f"n{number} lists {len(epochs)} keys")
    if len(set(epochs)) != len(epochs):
        raise Broken("key states", f"n{number} lists two keys of one epoch: {epochs}")
    if sum(entry.send for entry in state.entries) > 1:
        raise Broken("key states", f"n{number} lists two keys to send with")
