"""The datagrams of the session managers, as real records: each manager has a `GroupSession` that installs KEY_STATEs.

The model in `traffic` checks only which receivers hold the key of a datagram. Here the datagram is sent: the session of
its sender seals it and counts its own sequence numbers. The sessions of all receivers, on the same host too, open it
within `FLIGHT`. Some datagrams arrive twice, as a network may repeat them. These rules always hold:

1. A session delivers a datagram exactly once and unchanged if its manager has installed the key.
2. A session delivers no datagram without the key, and none of its own.
3. A session can send whenever its daemon lets it.
4. No two records under one key have the same number.

The two need not be linked: `traffic` checks that the receiver has the key, and no more is needed here. Each sender
sends every `SEND_EVERY`, and whenever it begins to use a key or an id. In a group of more than `MOST_HOSTS` each
datagram reaches a random `SAMPLE` of the sessions only, because so many deliveries would take minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

from pskkey.mcast.session import CannotSend, GroupSession, Message
from pskkey.model import KeyState
from pskkey.wire.packet import Channel, PacketReader, Side
from tests.sim.host import Broken
from tests.sim.managers import Managers, SessionManager
from tests.sim.world import World

FLIGHT = 0.1
"""Seconds that a datagram may be on its way."""

SEND_EVERY = 0.75
"""Seconds between two datagrams of one sender."""

REPEATED = 0.1
"""The share of the datagrams that arrive twice."""

MOST_HOSTS = 32
"""Hosts of the largest group in which each datagram reaches all sessions."""

SAMPLE = 16
"""Sessions that a datagram of a larger group reaches."""


@dataclass(frozen=True, eq=False)
class Datagram:
    """One record: its sender, the fingerprint of its key, its sender id, and the managers that have delivered it."""

    sender: SessionManager
    key: str
    sender_id: int
    plaintext: bytes
    record: bytes
    receivers: tuple[SessionManager, ...] | None
    """The sessions that it reaches; None: all."""
    delivered: set[SessionManager] = field(default_factory=set)


class Datagrams:
    """All real datagrams of a world. `is_covered(sender, key)`: whether the rules apply to this use of a key."""

    def __init__(self, world: World, managers: Managers, is_covered: Callable[[SessionManager, str], bool]) -> None:
        self._world = world
        self._managers = managers
        self._is_covered = is_covered
        self._random = Random(0)  # not the world's: the datagrams must not change the run
        self._numbers = count(1)
        self._sessions: dict[SessionManager, GroupSession] = {}
        self._sent: set[tuple[str, bytes]] = set()
        """The key and the record number of each datagram."""
        self.make_session: Callable[[], GroupSession] = partial(GroupSession, any_sender=True)
        """Makes a session as `join` does. A test may give a defective one, to see that the defect is found."""
        self.delivered = 0
        """How often a datagram was delivered."""
        managers.changed.append(self._installed)
        managers.ended.append(self._ended)
        world.at(SEND_EVERY, self._send_all)

    def _installed(self, manager: SessionManager, _knew: frozenset[str], sent: tuple[str, int] | None) -> None:
        session = self._sessions.get(manager)
        if session is None:
            session = self._sessions[manager] = self.make_session()
        for state in PacketReader(Channel.KEYS, Side.CLIENT).receive_untrusted(manager.state):
            assert isinstance(state, KeyState)
            session.apply(state)
        if manager.sends != sent:
            self._send(manager, session)

    def _ended(self, manager: SessionManager) -> None:
        self._sessions.pop(manager, None)

    def _send_all(self) -> None:
        self._world.at(self._world.now + SEND_EVERY, self._send_all)
        for manager, session in self._sessions.items():
            self._send(manager, session)

    def _send(self, manager: SessionManager, session: GroupSession) -> None:
        if manager.sends is None:
            return
        name, (key, sender_id) = manager.host.name, manager.sends
        plaintext = b"datagram %d" % next(self._numbers)
        try:
            record = session.send(plaintext)
        except CannotSend as why:
            raise Broken("G11", f"{name} is to send with key {self._name(key)} and cannot: {why}") from None
        number = record[3:11]
        if (key, number) in self._sent and self._is_covered(manager, key):
            raise Broken("G1", f"{name} sends two records with key {self._name(key)} and number {number.hex()}")
        self._sent.add((key, number))
        receivers = None
        if len(self._world.hosts) > MOST_HOSTS:
            receivers = tuple(self._random.sample(list(self._sessions), min(SAMPLE, len(self._sessions))))
        datagram = Datagram(manager, key, sender_id, plaintext, record, receivers)
        for _ in range(2 if self._random.random() < REPEATED else 1):
            self._world.at(self._world.now + self._random.uniform(0.0, FLIGHT), partial(self._receive, datagram))

    def _receive(self, datagram: Datagram) -> None:
        sender, reach = datagram.sender, self._world.reach
        is_covered = self._is_covered(sender, datagram.key)
        for receiver in self._sessions if datagram.receivers is None else datagram.receivers:
            session = self._sessions.get(receiver)
            if session is None or not reach.passes(sender.host, receiver.host):
                continue
            message = session.receive(datagram.record, self._world.now)
            is_due = receiver is not sender and datagram.key in receiver.knows and receiver not in datagram.delivered
            if is_covered and is_due != (message is not None):
                raise Broken("G10", self._describe_fault(datagram, receiver, message))
            if message is not None:
                if message.plaintext != datagram.plaintext or message.sender_id != datagram.sender_id:
                    seen = f"{receiver.host.name} delivers {message}, which {sender.host.name} has not sent"
                    raise Broken("G10", seen)
                datagram.delivered.add(receiver)
                self.delivered += 1

    def _describe_fault(self, datagram: Datagram, receiver: SessionManager, message: Message | None) -> str:
        name, sender, key = receiver.host.name, datagram.sender, self._name(datagram.key)
        sent = f"a datagram that {sender.host.name} has sent with key {key} as {datagram.sender_id}"
        if message is None:
            session = self._sessions[receiver]
            before = session.counters.copy()
            session.receive(datagram.record, self._world.now)  # again, for the reason
            return f"{name} has that key and does not deliver {sent}: {', '.join(session.counters - before)}"
        if receiver in datagram.delivered:
            return f"{name} delivers twice {sent}"
        return f"{name} delivers {sent}, {'its own' if receiver is sender else 'without that key'}"

    def _name(self, fingerprint: str) -> str:
        return self._world.keys.get(fingerprint, fingerprint)
