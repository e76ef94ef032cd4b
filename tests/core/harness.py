"""One node and the events that it gets: events in, actions out, by the public interface only."""

from collections.abc import Iterable
from dataclasses import replace

from pskkey.core.actions import Action, Advertise, Connect, Disconnect, GenerateKey, Send
from pskkey.core.events import (
    Accepted,
    AdvertReceived,
    Connected,
    Direction,
    Event,
    KeyGenerated,
    Received,
    Session,
    Started,
    Timeout,
)
from pskkey.core.node import Node
from pskkey.core.settings import Settings, Timing
from pskkey.core.view import NodeView
from pskkey.model import (
    SPEAKS,
    Advert,
    Group,
    Heartbeat,
    HeldKey,
    Join,
    KeyEntry,
    KeyState,
    Levels,
    Member,
    Message,
    PskName,
    Role,
    SavedState,
)
from tests.core.keys import key

ME = "55555555"
OLD_PSK = PskName("old")


def member(
    node_id: str,
    *,
    priority: int = 100,
    eligible: bool = True,
    sender_id: int | None = None,
    speaks: Levels = SPEAKS,
) -> Member:
    """Return a node whose name and address follow from its id."""
    name, address = f"n{node_id[0]}", f"10.0.0.{int(node_id[:2], 16)}"
    return Member(node_id, name, (address,), 11111, priority, eligible, sender_id, speaks=speaks)


def advert(node_id: str, role: Role, *, term: int = 1, members: int = 1, priority: int = 100) -> Advert:
    """Return the advert of such a node."""
    m = member(node_id, priority=priority)
    return Advert("g", m.id, m.name, m.priority, m.eligible, role, term, members, m.addresses, m.port)


def join(node_id: str, *, term: int = 0, held: tuple[HeldKey, ...] = (), incarnation: str = "i1") -> Join:
    """Return the JOIN of such a node."""
    return Join("g", member(node_id), incarnation, term, held, sender=False, lease=None)


class NodeHarness:
    """A node under test. Only the test moves `now`; every call returns the actions."""

    def __init__(
        self,
        *,
        eligible: bool = True,
        priority: int = 100,
        preempt: bool = False,
        max_members: int = 1024,
        sender_id: int | None = None,
        incarnation: str = "i0",
        me: str = ME,
        nonce: str = "n",
        saved: SavedState | None = None,
        timing: Timing | None = None,
        speaks: Levels = SPEAKS,
    ) -> None:
        mine = member(me, eligible=eligible, priority=priority, sender_id=sender_id, speaks=speaks)
        settings = Settings("g", mine, incarnation, nonce, max_members, preempt=preempt, timing=timing or Timing())
        self.node = Node(settings, saved)
        self._me = me
        self.now = 100.0
        self.keys = 0
        self.log: list[Action] = []

    @property
    def view(self) -> NodeView:
        """The view of the node."""
        return self.node.view()

    @property
    def members(self) -> set[str]:
        """The ids of the members that the node knows, without its own."""
        group = self.node.group()
        return {m.id for m in group.members} - {self._me} if group else set()

    def give(self, event: Event) -> list[Action]:
        """Handle an event, and generate a requested key at once, as the driver does."""
        actions = list(self.node.handle(event, self.now))
        for asked in of(GenerateKey, actions):
            self.keys += 1
            actions += self.node.handle(KeyGenerated(replace(key(self.keys), suite=asked.suite)), self.now)
        self.log += actions
        return actions

    def start(self) -> "NodeHarness":
        """Start the node."""
        self.give(Started())
        return self

    def restart(
        self, saved: SavedState | None = None, *, incarnation: str = "i0", now: float | None = None
    ) -> "NodeHarness":
        """Return the started node of the next process, with the persisted state of this one."""
        again = NodeHarness(incarnation=incarnation, saved=self.node.saved_state() if saved is None else saved)
        again.now = self.now + 0.5 if now is None else now
        return again.start()

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, with a timeout at each deadline of the node."""
        end = self.now + seconds
        actions: list[Action] = []
        while (deadline := self.node.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            actions += self.give(Timeout())
        self.now = end
        return actions

    def hear(self, *adverts: Advert) -> list[Action]:
        """Receive fresh adverts: they answer the node's challenge, if it has one."""
        answers = tuple(a.advert.challenge for a in self.log if isinstance(a, Advertise) and a.advert.challenge)[-1:]
        return self.hear_old(*(replace(one, answers=answers) for one in adverts))

    def hear_old(self, *adverts: Advert) -> list[Action]:
        """Receive adverts as they are."""
        return [a for one in adverts for a in self.give(AdvertReceived(one))]

    def receive(self, session: Session, *messages: Message) -> list[Action]:
        """Receive messages on a session."""
        return [a for one in messages for a in self.give(Received(session, one))]

    def accept(self, number: int, message: Message, address: str | None = None) -> list[Action]:
        """Accept a client's session that begins with `message`, from an address of its own unless one is given."""
        session = Session(Direction.INBOUND, number)
        actions = self.give(Accepted(session, address or f"10.0.0.{number}")) + self.receive(session, message)
        return actions + self.receive(session, Heartbeat()) if sent(Group, actions) else actions

    def become_client(self, *others: str, master: str = "11111111", term: int = 1, psk: PskName = OLD_PSK) -> Session:
        """Join a master that serves this node and `others`, on a session that is opened with `psk`."""
        connect = one(Connect, self.hear(advert(master, Role.MASTER, term=term)))
        self.give(Connected(connect.session, psk))
        ids = sorted((ME, *others))
        members = tuple(member(i, sender_id=n) for n, i in enumerate((master, *ids)))
        self.receive(connect.session, Group(term, master, members, tuple(ids)))
        state = KeyState(ids.index(ME) + 1, frozenset(range(len(members))), (KeyEntry(1, key(901), send=True),))
        self.receive(connect.session, state)
        return connect.session

    def become_master(self) -> "NodeHarness":
        """Wait until the node has become master."""
        self.wait(1.5)
        assert self.view.role is Role.MASTER
        return self


def of[T](kind: type[T], actions: Iterable[Action]) -> list[T]:
    """Return the actions of one kind."""
    return [a for a in actions if isinstance(a, kind)]


def one[T](kind: type[T], actions: Iterable[Action]) -> T:
    """Return the only action of one kind."""
    found = of(kind, actions)
    assert len(found) == 1, f"{len(found)} of {kind.__name__}, not one"
    return found[0]


def sent[T](kind: type[T], actions: Iterable[Action]) -> list[T]:
    """Return the messages of one kind that are to be sent."""
    return [a.message for a in of(Send, actions) if isinstance(a.message, kind)]


def refusal(actions: Iterable[Action]) -> str | None:
    """Return the code with which a session is closed."""
    return next((d.error.code for d in of(Disconnect, actions) if d.error), None)


def advertised(actions: Iterable[Action]) -> list[Role]:
    """Return the roles that are to be advertised."""
    return [a.advert.role for a in of(Advertise, actions)]
