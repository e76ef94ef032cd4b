"""The session managers of this node: who watches the key state, and the one of them that may send.

A sender that was restarted would count its sequence numbers from zero again under a key that it has used, so a new
process gets the current key for reception only, until the group sends with another epoch; a reconnect of the same
process goes on at once.
"""

from dataclasses import dataclass, field, replace

from pskkey.core.actions import Action, Notice, NoticeKind, Send
from pskkey.core.events import Process, Session
from pskkey.model import KeyState


@dataclass(slots=True)
class Consumer:
    """One local session. Nothing is waited for from one that has never acknowledged anything."""

    session: Session
    process: Process
    watches: bool = False
    asked_to_send: bool = False
    will_send: bool = False
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
        self._sender: Process | None = None
        self._sender_epoch: int | None = None
        """The newest epoch under which `_sender` may have sent."""
        self._blocked_epoch: int | None = None

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def all(self) -> tuple[Consumer, ...]:
        """Return every local session."""
        return tuple(self._consumers.values())

    @property
    def sends(self) -> bool:
        """Tell whether a session manager that sends is attached."""
        return any(c.will_send for c in self._consumers.values())

    def is_blocked(self, epoch: int) -> bool:
        """Tell whether the session manager that sends must wait for another epoch than this."""
        return self.sends and self._blocked_epoch == epoch

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

    def watch(self, session: Session, epoch: int, *, will_send: bool) -> None:
        """KEY_WATCH came; `epoch` is the current one."""
        consumer = self._consumers[session]
        consumer.watches, consumer.told = True, None
        consumer.asked_to_send = will_send
        if not will_send or consumer.will_send:
            return
        other = next((c for c in self._consumers.values() if c.will_send and c.process != consumer.process), None)
        if other is not None:
            text = f"process {consumer.process.pid} asks to send, but process {other.process.pid} does: it may receive"
            self._out.append(Notice(NoticeKind.SECOND_SENDER, text, {"pid": consumer.process.pid}))
            return
        for earlier in self._consumers.values():
            earlier.will_send = False
        consumer.will_send = True
        if self._sender not in (None, consumer.process) and self._sender_epoch == epoch:
            self._blocked_epoch = epoch
        self._sender = consumer.process

    def acknowledge(self, session: Session, epoch: int) -> None:
        """A session manager installed `epoch` for reception."""
        self._consumers[session].acked.add(epoch)

    def deliver(self, state: KeyState) -> None:
        """Tell every watcher what it does not know yet of `state`; who asked to send but may not, gets no send mark.

        While there is no key, nothing is told: a daemon that has just started knows less than its session managers, who
        would drop the keys that they hold.
        """
        if not state.entries:
            return
        current = next((e.epoch for e in state.entries if e.send), None)
        receive_only = replace(state, sender_id=None, entries=tuple(replace(e, send=False) for e in state.entries))
        for consumer in self._consumers.values():
            if not consumer.watches:
                continue
            theirs = receive_only if consumer.asked_to_send else replace(state, sender_id=None)
            if consumer.will_send and state.sender_id is not None and self._blocked_epoch != current:
                theirs = state
                self._sender_epoch = current
            if theirs != consumer.told:
                gone = {e.epoch for e in consumer.told.entries} if consumer.told else set()
                # An epoch that is told anew must be acknowledged anew: after a merge it may have another key.
                consumer.acked -= gone - {e.epoch for e in theirs.entries}
                consumer.told = theirs
                self._out.append(Send(consumer.session, theirs))
