"""The session managers of this node: who watches the key state, and the one of them that may send.

A sender that was restarted would count its sequence numbers from zero again under a key that was sent with before. So
it is remembered which process was told to send with which key: another one gets that key for reception only, until the
group sends with a key that no other process has sent with. A reconnect of the same process goes on at once.

Of several that ask to send, the one that asked first may; when it leaves, the next.
"""

from dataclasses import dataclass, field, replace

from pskkey.core.actions import Action, Notice, NoticeKind, Send
from pskkey.core.events import Process, Session
from pskkey.model import Key, KeyEntry, KeyState

SENT_WITH_LIMIT = 64
"""How many keys it is remembered for who sent with them; a ring holds three."""


@dataclass(slots=True)
class Consumer:
    """One local session. Nothing is waited for from one that has never acknowledged anything."""

    session: Session
    process: Process
    watches: bool = False
    asked_to_send: bool = False
    acked: set[int] = field(default_factory=set)
    told: KeyState | None = None

    @property
    def acked_epoch(self) -> int | None:
        """The newest epoch that it has acknowledged and that is still held; None if there is none."""
        held = [e.epoch for e in self.told.entries] if self.told else []
        return next((epoch for epoch in reversed(held) if epoch in self.acked), None)


class Consumers:
    """All local sessions. Methods append what must be done to `out`."""

    def __init__(self, out: list[Action]) -> None:
        self._out = out
        self._consumers: dict[Session, Consumer] = {}
        self._sent_with: dict[str, Process] = {}
        """By the fingerprint of a key, the process that was told to send with it."""

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def all(self) -> tuple[Consumer, ...]:
        """Return every local session."""
        return tuple(self._consumers.values())

    @property
    def sender(self) -> Consumer | None:
        """Return the session of the one process that sends: its latest, if it has reconnected."""
        asking = [c for c in self._consumers.values() if c.asked_to_send]
        return next((c for c in reversed(asking) if c.process == asking[0].process), None)

    @property
    def sends(self) -> bool:
        """Tell whether somebody here wants to send."""
        return self.sender is not None

    def is_blocked(self, key: Key) -> bool:
        """Tell whether the one that sends must wait for another key than this."""
        sender = self.sender
        return sender is not None and self._sent_with.get(key.fingerprint, sender.process) != sender.process

    def has(self, session: Session) -> bool:
        """Tell whether a local session is open."""
        return session in self._consumers

    def all_acknowledged(self, epoch: int) -> bool:
        """Tell whether every session manager that acknowledges at all has acknowledged `epoch`."""
        return all(not c.acked or epoch in c.acked for c in self._consumers.values() if c.watches)

    # --- what happens -------------------------------------------------------------------------------------------

    def attach(self, session: Session, process: Process) -> None:
        """A process connected to `keys.sock`."""
        self._consumers[session] = Consumer(session, process)

    def detach(self, session: Session) -> None:
        """A process is gone."""
        self._consumers.pop(session, None)

    def watch(self, session: Session, *, will_send: bool) -> None:
        """KEY_WATCH came; it may come again, to be told anew or to change whether it sends."""
        consumer = self._consumers[session]
        consumer.watches, consumer.told, consumer.asked_to_send = True, None, will_send
        sender = self.sender
        if will_send and sender is not None and sender.process != consumer.process:
            text = f"process {consumer.process.pid} asks to send, but process {sender.process.pid} does: it may receive"
            self._out.append(Notice(NoticeKind.SECOND_SENDER, text, {"pid": consumer.process.pid}))

    def acknowledge(self, session: Session, epoch: int) -> None:
        """A session manager installed `epoch`, which it was told of, for reception."""
        consumer = self._consumers[session]
        if consumer.told is not None and epoch in {e.epoch for e in consumer.told.entries}:
            consumer.acked.add(epoch)

    def deliver(self, state: KeyState) -> None:
        """Tell every watcher what it does not know yet of `state`; who asked to send but may not, gets no send mark.

        While there is no key, nothing is told: a daemon that has just started knows less than its session managers, who
        would drop the keys that they hold.
        """
        if not state.entries:
            return
        sender = self.sender
        key = next((e.key for e in state.entries if e.send), None)
        may_send = key is not None and state.sender_id is not None and not self.is_blocked(key)
        if key is not None and sender is not None and may_send:
            self._sent_with[key.fingerprint] = sender.process
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
                # What is told anew must be acknowledged anew: the same epoch may have another key.
                held = {e.epoch for e in theirs.entries if consumer.told and _has(consumer.told, e)}
                consumer.acked &= held
                consumer.told = theirs
                self._out.append(Send(consumer.session, theirs))


def _has(state: KeyState, entry: KeyEntry) -> bool:
    return any(e.epoch == entry.epoch and e.key == entry.key for e in state.entries)
