"""The session managers of this node: who watches the key state, and the one of them that may send.

A sender that has lost its sequence numbers would count from zero again under a key that was sent with before. So each
names its memory of them, with KEY_WATCH, and it is remembered which memory was told to send with which key: another one
gets that key for reception only, until the group sends with a key that no other has sent with. Who reconnects with its
memory goes on at once; who names none is another sender on each connection. A key that its sender was told to drop, or
has lost the numbers of, is spent: nobody sends with it again.

Of several that ask to send, the one that asked first may; when it leaves, the next.

When the daemon was restarted, its session managers come back within moments. Until they have, or patience is over, each
keeps its place: nobody else is made the sender in its stead, and no key is called installed that it may not have. A
daemon that has lost its memory does not know whom it awaits, so at first it awaits anybody.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf, isfinite

from pskkey.core.actions import Action, Send
from pskkey.core.events import Session
from pskkey.core.key_slots import KeySlot
from pskkey.core.notices import SecondSender
from pskkey.core.settings import Settings
from pskkey.model import Key, KeyState, Process, SavedConsumer, Turn

NOBODY = 0
"""The memory of a key that is spent."""

SENT_WITH_LIMIT = 64
"""How many keys it is remembered for who sent with them; a ring holds three."""


@dataclass(slots=True)
class Consumer:
    """One local session. Nothing is waited for from one that has never acknowledged anything."""

    session: Session
    process: Process
    memory: int
    """Of its sequence numbers: what it named, or, below zero, one that nobody else has."""
    watches: bool = False
    asked_to_send: bool = False
    acknowledges: bool = False
    acked: set[str] = field(default_factory=set)
    """The fingerprints of the keys that it has acknowledged and that it was told of last."""
    told: KeyState | None = None

    @property
    def acked_epoch(self) -> int | None:
        """The newest epoch that it has acknowledged and that is still held; None if there is none."""
        held = self.told.entries if self.told else ()
        return next((e.epoch for e in reversed(held) if e.key.fingerprint in self.acked), None)


class Consumers:
    """All local sessions. Methods append what must be done to `out`."""

    def __init__(
        self,
        settings: Settings,
        out: list[Action],
        sent_with: Iterable[tuple[str, int]] = (),
        awaited: Iterable[SavedConsumer] = (),
    ) -> None:
        self._settings = settings
        self._out = out
        self._consumers: dict[Session, Consumer] = {}
        self._sent_with = dict(sent_with)
        """By the fingerprint of a key, the memory that was told to send with it."""
        self._awaited = {consumer.memory: consumer for consumer in awaited}
        """Those of the daemon's last process that have not come back yet, or not acknowledged anything again."""
        self._return_until = inf
        self._arrive_until = inf
        """Until then, which is some time after the first key was there to be told, more may come than are known."""
        self._askers = [c.memory for c in self._awaited.values() if c.asked_to_send]
        """The memories that ask to send, in the order in which they asked."""
        self._delivered: KeyState | None = None
        """What was delivered last; None when somebody has come, gone, or asked since."""

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def all(self) -> tuple[Consumer, ...]:
        """Return every local session."""
        return tuple(self._consumers.values())

    @property
    def sender(self) -> Consumer | None:
        """Return the session of the one that sends: its latest, if it has reconnected."""
        first = self._askers[0] if self._askers else None
        return next((c for c in reversed(self._consumers.values()) if c.asked_to_send and c.memory == first), None)

    @property
    def sends(self) -> bool:
        """Tell whether somebody here wants to send."""
        return bool(self._askers)

    def saved(self) -> tuple[SavedConsumer, ...]:
        """Return who would be expected back if the daemon were restarted now, in their order as senders."""
        there: dict[int, SavedConsumer] = dict(self._awaited)
        for consumer in self._consumers.values():
            memory = consumer.memory
            if consumer.watches and memory > 0:
                acknowledges = consumer.acknowledges or (memory in there and there[memory].acknowledges)
                there[memory] = SavedConsumer(memory, memory in self._askers, acknowledges)
        askers = [there.pop(memory) for memory in self._askers if memory > 0]
        return (*askers, *there.values())

    def sent_with(self) -> tuple[tuple[str, int], ...]:
        """Return, by the fingerprint of a key, the memory that was told to send with it; 0: none that will be back."""
        return tuple((fingerprint, max(memory, NOBODY)) for fingerprint, memory in self._sent_with.items())

    def is_blocked(self, key: Key) -> bool:
        """Tell whether the one that sends must wait for another key than this."""
        sender = self.sender
        return sender is not None and self._sent_with.get(key.fingerprint, sender.memory) != sender.memory

    def has(self, session: Session) -> bool:
        """Tell whether a local session is open."""
        return session in self._consumers

    def user_of(self, session: Session) -> int:
        """Return the user id of an open local session."""
        return self._consumers[session].process.uid

    def all_acknowledged(self, entry: KeySlot, now: float) -> bool:
        """Tell whether every session manager that acknowledges at all has acknowledged this key.

        A key of which the turn is to come waits also for those who may be on their way.
        """
        if entry.turn is Turn.NEXT and now < self._arrive_until:
            return False
        if any(awaited.acknowledges for awaited in self._awaited.values()):
            return False
        return all(entry.key.fingerprint in c.acked for c in self._consumers.values() if c.acknowledges)

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do."""
        return min(filter(isfinite, (self._return_until, self._arrive_until)), default=None)

    # --- what happens -------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The daemon starts."""
        self._return_until = now + self._settings.timing.consumers_return

    def tick(self, now: float) -> None:
        """Give up waiting when patience is over: whoever has not come back does not count any more."""
        if now >= self._return_until:
            self._return_until = inf
            self._awaited.clear()
            self._review_askers()
        if now >= self._arrive_until:
            self._arrive_until = -inf

    def attach(self, session: Session, process: Process) -> None:
        """A process connected to `keys.sock`."""
        self._consumers[session] = Consumer(session, process, -1 - session.number)

    def detach(self, session: Session) -> None:
        """A process is gone."""
        self._consumers.pop(session, None)
        self._review_askers()

    def watch(self, session: Session, *, will_send: bool, memory: int) -> None:
        """KEY_WATCH came; it may come again, to be told anew, or to change whether it sends and with which memory."""
        consumer = self._consumers[session]
        consumer.watches, consumer.told, consumer.asked_to_send = True, None, will_send
        consumer.memory = memory or -1 - session.number
        returned = self._awaited.get(memory)
        if returned is not None and not returned.acknowledges:
            del self._awaited[memory]
        if will_send and consumer.memory not in self._askers:
            self._askers.append(consumer.memory)
        self._review_askers()
        sender = self.sender
        if will_send and sender is not None and sender.memory != consumer.memory:
            self._out.append(SecondSender(consumer.process.pid, sender.process.pid))

    def acknowledge(self, session: Session, epoch: int) -> None:
        """A session manager installed `epoch`, which it was told of, for reception."""
        consumer = self._consumers[session]
        if consumer.told is None:
            return
        # Also one who is so slow that the key has gone meanwhile: the next ones will be waited for.
        consumer.acknowledges = True
        self._awaited.pop(consumer.memory, None)
        consumer.acked |= {entry.key.fingerprint for entry in consumer.told.entries if entry.epoch == epoch}

    def forgot(self, session: Session) -> None:
        """A sender has not the sequence numbers of the key that it was told to send with; nobody else has any."""
        told = self._consumers[session].told
        for entry in told.entries if told is not None and told.sender_id is not None else ():
            if entry.send:
                self._sent_with[entry.key.fingerprint] = NOBODY
        self._delivered = None

    def deliver(self, state: KeyState, now: float) -> None:
        """Tell every watcher what it does not know yet of `state`; who asked to send but may not, gets no send mark.

        While there is no key, nothing is told: a daemon that has just started knows less than its session managers, who
        would drop the keys that they hold.
        """
        if not state.entries or state == self._delivered:
            return
        self._delivered = state
        if self._arrive_until == inf:
            self._arrive_until = now + self._settings.timing.consumers_arrive
        sender = self.sender
        key = next((e.key for e in state.entries if e.send), None)
        may_send = key is not None and state.sender_id is not None and not self.is_blocked(key)
        if key is not None and sender is not None and may_send:
            self._sent_with[key.fingerprint] = sender.memory
            for oldest in list(self._sent_with)[:-SENT_WITH_LIMIT]:
                del self._sent_with[oldest]
        receive_only = replace(state, sender_id=None, entries=tuple(replace(e, send=False) for e in state.entries))
        for consumer in self._consumers.values():
            if not consumer.watches:
                continue
            theirs = receive_only if consumer.asked_to_send else replace(state, sender_id=None)
            if consumer is sender and may_send:
                theirs = state
            if theirs != consumer.told:
                consumer.acked &= {e.key.fingerprint for e in theirs.entries}
                consumer.told = theirs
                self._spend(consumer.memory, theirs)
                self._out.append(Send(consumer.session, theirs))

    def _spend(self, memory: int, told: KeyState) -> None:
        """Whoever is told to drop a key drops its sequence numbers too."""
        listed = {entry.key.fingerprint for entry in told.entries}
        for fingerprint, sent in self._sent_with.items():
            if sent == memory and fingerprint not in listed:
                self._sent_with[fingerprint] = NOBODY

    def _review_askers(self) -> None:
        self._delivered = None
        asking = {c.memory for c in self._consumers.values() if c.asked_to_send}
        self._askers = [m for m in self._askers if m in asking or m in self._awaited]
