"""Programs that hold our PSK and are not our nodes: a veteran joins with a late epoch, a babbler sends nonsense.

Both handle the same events as a node and return the same actions.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from random import Random

from pskkey.core.actions import Action, Advertise, Connect, Disconnect, Send
from pskkey.core.events import Accepted, AdvertReceived, Connected, Direction, Disconnected, Event, Received, Session
from pskkey.model import (
    MAX_ANSWERS,
    MAX_EPOCH,
    Advert,
    ErrorMessage,
    Group,
    Handover,
    Heartbeat,
    HeldKey,
    Join,
    Key,
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyState,
    Member,
    Merge,
    Message,
    Role,
)


class Veteran:
    """A client that joins the first master that it hears, and claims in its JOIN to send under a late epoch.

    A group rekeys to an epoch above the claimed one if that is less than half of all epochs ahead of its own. So the
    veteran claims several `epochs`, one after the other.
    """

    def __init__(self, me: Callable[[], Member], epochs: tuple[int, ...]) -> None:
        self._me = me
        self._epochs = list(epochs)
        self._tried = False

    def handle(self, event: Event, _now: float) -> list[Action]:
        """Join, and join again when the epoch of the group is above the last claim."""
        match event:
            case AdvertReceived(advert) if advert.role is Role.MASTER and not self._tried:
                self._tried = True
                session = Session(Direction.OUTBOUND, 1)
                return [Connect(session, advert.id, advert.addresses, advert.port, 5.0)]
            case Connected(session):
                return self._join(session)
            case Received(session, KeyState() as state):
                newest = state.entries[-1].epoch if state.entries else 0
                if self._epochs and newest > self._epochs[0]:
                    del self._epochs[0]
                    return [Send(session, KeyAck(newest)), *self._join(session)]
                return [Send(session, KeyAck(newest))] if newest else []
            case Received(session, Heartbeat()):
                return [Send(session, Heartbeat())] if self._epochs else []
            case _:
                return []

    def _join(self, session: Session) -> list[Action]:
        if not self._epochs:
            return []
        held = (HeldKey(self._epochs[0], f"{self._epochs[0]:016x}", send=True),)
        return [Send(session, Join("sim", self._me(), "veteran", 0, held, sender=False, lease=None))]

    def next_deadline(self) -> float | None:
        """Return None: it has no deadline."""
        return None


class Babbler:
    """Claims to be a master, joins, asks to merge, and sends messages of valid form that make no sense."""

    def __init__(self, me: Callable[[], Member], random: Random, fresh_key: Callable[[], Key]) -> None:
        self._me = me
        self._random = random
        self._fresh_key = fresh_key
        self._numbers = count(1)
        self._known: dict[str, Advert] = {}
        self._open: list[Session] = []
        self._next = 0.0
        self._term = 1

    def handle(self, event: Event, now: float) -> list[Action]:
        """Return nonsense, as an answer to the event, and now and then without a cause."""
        actions: list[Action] = []
        match event:
            case AdvertReceived(advert):
                self._known[advert.id] = advert
                self._term = max(self._term, advert.term)
            case Connected(session) | Accepted(session):
                self._open.append(session)
                actions += self._send_nonsense(session)
            case Received(session, message) if session in self._open:
                if not isinstance(message, Heartbeat) or self._random.random() < 0.5:
                    actions += self._send_nonsense(session)
            case Disconnected(session):
                self._open = [s for s in self._open if s != session]
            case _:
                pass
        if now >= self._next:
            self._next = now + self._random.uniform(0.05, 0.6)
            actions += self._act_without_cause()
        return actions

    def next_deadline(self) -> float | None:
        """Return when it sends nonsense without a cause next."""
        return self._next

    def _act_without_cause(self) -> list[Action]:
        rng = self._random
        actions: list[Action] = []
        if rng.random() < 0.3:
            term = max(0, self._term + rng.choice((-3, 0, 1, 7)))
            me, role, members = self._me(), rng.choice(tuple(Role)), rng.choice((1, 3, 1000))
            claim = Advert("sim", me.id, me.name, me.priority, me.eligible, role, term, members, me.addresses, me.port)
            challenges = [a.challenge for a in self._known.values() if a.challenge]
            actions.append(Advertise(replace(claim, answers=tuple(challenges[-MAX_ANSWERS:]))))
        if self._known and len(self._open) < 6:
            advert = rng.choice(sorted(self._known.values(), key=lambda a: a.id))
            session = Session(Direction.OUTBOUND, next(self._numbers))
            actions.append(Connect(session, advert.id, advert.addresses, advert.port, 1.0))
        for session in list(self._open):
            if rng.random() < 0.15:
                self._open.remove(session)
                actions.append(Disconnect(session))
            else:
                actions += self._send_nonsense(session)
        return actions

    def _send_nonsense(self, session: Session) -> list[Action]:
        to_server = session.direction is Direction.OUTBOUND
        kinds = self._client_messages() if to_server else self._server_messages()
        return [Send(session, self._random.choice(kinds)()) for _ in range(self._random.randrange(4))]

    def _client_messages(self) -> list[Callable[[], Message]]:
        rng = self._random
        return [
            self._join,
            self._join,
            self._merge,
            Heartbeat,
            KeyRequest,
            lambda: KeyAck(rng.choice((1, 2, 3, 77, MAX_EPOCH))),
            lambda: KeyNew(KeyNewReason.SENDER_RESTARTED),
            lambda: ErrorMessage("nonsense", "it makes no sense"),
        ]

    def _server_messages(self) -> list[Callable[[], Message]]:
        rng = self._random
        return [
            self._group,
            self._group,
            self._key_state,
            self._merge,
            Heartbeat,
            lambda: Handover(self._random_member(), self._random_term(), tuple(self._random_members())),
            lambda: ErrorMessage(rng.choice(("not_master", "group_full", "busy", "nonsense")), "it makes no sense"),
        ]

    def _join(self) -> Join:
        rng = self._random
        me = replace(self._me(), priority=rng.choice((0, 100, 255)), sender_id=rng.choice((None, 0, 9, 255)))
        held = tuple(
            HeldKey(epoch, f"{rng.randrange(2**64):016x}", send=rng.random() < 0.5)
            for epoch in rng.sample((1, 2, 3, 9, 300), rng.randrange(4))
        )
        incarnation = f"babbler-{rng.randrange(3)}"
        lease = rng.choice((None, 0, 1, 255))
        return Join("sim", me, incarnation, self._random_term(), held, sender=rng.random() < 0.5, lease=lease)

    def _merge(self) -> Merge:
        rng = self._random
        winner = rng.choice((None, self._me().id, self._random_member().id))
        return Merge(self._me(), self._random_term(), rng.choice((1, 4, 1000)), rng.choice((0, 1, 5, 400)), winner)

    def _group(self) -> Group:
        members = self._random_members()
        if self._random.random() < 0.5:
            members.append(self._me())
        master = self._random.choice((self._me(), self._random_member()))
        succession = tuple(m.id for m in members if self._random.random() < 0.7)
        return Group(self._random_term(), master.id, tuple(members), succession)

    def _key_state(self) -> KeyState:
        rng = self._random
        epochs = rng.sample((1, 2, 3, 5, 400, MAX_EPOCH), rng.randrange(4))
        sends = rng.randrange(4)
        entries = tuple(KeyEntry(epoch, self._fresh_key(), send=n == sends) for n, epoch in enumerate(epochs))
        sender_id = rng.choice((None, 0, 1, 200))
        return KeyState(sender_id, frozenset(rng.sample(range(256), 3)), entries)

    def _random_term(self) -> int:
        return max(0, self._term + self._random.choice((-5, -1, 0, 0, 1, 2, 1000, 2**40)))

    def _random_members(self) -> list[Member]:
        known = sorted(self._known.values(), key=lambda a: a.id)
        some = self._random.sample(known, self._random.randrange(len(known) + 1))
        return [_member(advert, self._random.choice((None, 0, 1, 2))) for advert in some]

    def _random_member(self) -> Member:
        known = sorted(self._known.values(), key=lambda a: a.id)
        nobody = Member("f" * 32, "nobody", ("10.99.99.99",), 11111)
        return self._random.choice([nobody, *(_member(advert, None) for advert in known)])


def _member(advert: Advert, sender_id: int | None) -> Member:
    return Member(
        advert.id, advert.name, advert.addresses, advert.port, advert.priority, advert.eligible, sender_id=sender_id
    )
