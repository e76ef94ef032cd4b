"""What session managers send, as real records: each has a `GroupSession`, which installs what its daemon tells it.

The model in `traffic` asks who holds the key of a datagram. Here it is sent: sealed by the session of its sender, which
counts its own sequence numbers, and opened by the session of everybody who hears it, on the same host too, within
`FLIGHT`. Some come twice, as a network may repeat them. Whatever happens to the group:

A datagram whose key the receiver has installed is delivered by its session, exactly once, as what was sent. Nobody
delivers what he has no key for, nor what is his own. A session can send whenever its daemon lets it, and no two records
under one key have one number.

It takes no link of the two: that the key is there is claimed in `traffic`, and it is all that is needed. Each sender
sends at every `SEND_EVERY`, and whenever it begins with a key or an id. A group of more than `MOST_HOSTS`, where so
many datagrams would take minutes, has the model only.
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
"""The share of the datagrams that come twice."""

MOST_HOSTS = 32
"""Hosts of the largest group whose datagrams are real."""


@dataclass(frozen=True, eq=False)
class Datagram:
    """One record: who sent it, with which key (by its fingerprint) and as whom, and who has delivered it."""

    sender: SessionManager
    key: str
    sender_id: int
    plaintext: bytes
    record: bytes
    delivered: set[SessionManager] = field(default_factory=set)


class Datagrams:
    """All real datagrams of a world. `vouches_for` tells whether the claims hold of a sender that sends with a key."""

    def __init__(self, world: World, managers: Managers, vouches_for: Callable[[SessionManager, str], bool]) -> None:
        self._world = world
        self._managers = managers
        self._vouches_for = vouches_for
        self._random = Random(0)  # not the world's: what is sent changes nothing of what happens
        self._numbers = count(1)
        self._sessions: dict[SessionManager, GroupSession] = {}
        self._sent: set[tuple[str, bytes]] = set()
        """The key and the record number of each datagram."""
        self.make_session: Callable[[], GroupSession] = partial(GroupSession, any_sender=True)
        """What a session is made of, as `join` makes it; a test may give another, to see that its defect is noticed."""
        self.delivered = 0
        """How often a datagram was delivered."""
        managers.changed.append(self._installed)
        managers.gone.append(self._gone)
        world.at(SEND_EVERY, self._send_all)

    def _installed(self, manager: SessionManager, _knew: frozenset[str], sent: tuple[str, int] | None) -> None:
        if len(self._world.hosts) > MOST_HOSTS:
            return
        session = self._sessions.get(manager)
        if session is None:
            session = self._sessions[manager] = self.make_session()
        for state in PacketReader(Channel.KEYS, Side.CLIENT).receive_untrusted(manager.state):
            assert isinstance(state, KeyState)
            session.apply(state)
        if manager.sends != sent:
            self._send(manager, session)

    def _gone(self, manager: SessionManager) -> None:
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
        if (key, number) in self._sent and self._vouches_for(manager, key):
            raise Broken("G1", f"{name} sends two records with key {self._name(key)} and number {number.hex()}")
        self._sent.add((key, number))
        datagram = Datagram(manager, key, sender_id, plaintext, record)
        for _ in range(2 if self._random.random() < REPEATED else 1):
            self._world.at(self._world.now + self._random.uniform(0.0, FLIGHT), partial(self._arrives, datagram))

    def _arrives(self, datagram: Datagram) -> None:
        sender, reach = datagram.sender, self._world.reach
        is_claimed = self._vouches_for(sender, datagram.key)
        for receiver, session in self._sessions.items():
            if not reach.passes(sender.host, receiver.host):
                continue
            message = session.receive(datagram.record, self._world.now)
            is_due = receiver is not sender and datagram.key in receiver.knows and receiver not in datagram.delivered
            if is_claimed and is_due != (message is not None):
                raise Broken("G10", self._what_is_wrong(datagram, receiver, message))
            if message is not None:
                if message.plaintext != datagram.plaintext or message.sender_id != datagram.sender_id:
                    seen = f"{receiver.host.name} delivers {message}, which {sender.host.name} has not sent"
                    raise Broken("G10", seen)
                datagram.delivered.add(receiver)
                self.delivered += 1

    def _what_is_wrong(self, datagram: Datagram, receiver: SessionManager, message: Message | None) -> str:
        name, sender, key = receiver.host.name, datagram.sender, self._name(datagram.key)
        sent = f"what {sender.host.name} has sent with key {key} as {datagram.sender_id}"
        if message is None:
            session = self._sessions[receiver]
            before = session.counters.copy()
            session.receive(datagram.record, self._world.now)  # once more, for its reason
            return f"{name} has that key and does not deliver {sent}: {', '.join(session.counters - before)}"
        if receiver in datagram.delivered:
            return f"{name} delivers twice {sent}"
        return f"{name} delivers {sent}, {'its own' if receiver is sender else 'without that key'}"

    def _name(self, fingerprint: str) -> str:
        return self._world.keys.get(fingerprint, fingerprint)
