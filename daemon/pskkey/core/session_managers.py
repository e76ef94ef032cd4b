"""The session managers of this node, and which of them may send.

A *session manager* is a local process that uses the keys. At most one of them is the *sender*, which may send.

1. A *sequence context* stands for the sequence numbers that a session manager knows. KEY_WATCH names it. A session
   manager that has lost its numbers names another context. Without a name, each connection is a new context.
2. Under one key no sequence number may be used twice. So a key belongs to the first context that may send with it.
   Other contexts only receive with this key. They wait for a key that belongs to no other context.
3. A key is *spent* when its context must drop it, or has lost its sequence numbers. No session manager sends with a
   spent key again.
4. If several session managers ask to send, the first one may send. When it leaves, the next one may send.
5. After a restart of the daemon, its session managers reconnect soon. Until `managers_return` each of them keeps its
   place: no other one becomes the sender instead, and no key counts as installed without its acknowledgement.
6. After a restart, unknown session managers may connect too. So no next key counts as installed for `managers_arrive`
   after the first key state.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf, isfinite

from pskkey.core.actions import Action, Send
from pskkey.core.events import Session
from pskkey.core.key_slots import RingKey
from pskkey.core.notices import SecondSender
from pskkey.core.settings import Settings
from pskkey.model import Key, KeyState, KeyWatch, Process, SavedManager, Slot

NOBODY = 0
"""The sequence context of a spent key."""

SENT_WITH_LIMIT = 64
"""Number of keys whose contexts the node remembers. A key ring has three keys."""


@dataclass(slots=True)
class SessionManager:
    """The local session of a session manager. No key waits for a session that has never acknowledged a key."""

    session: Session
    process: Process
    context: int
    """The sequence context: the number in KEY_WATCH, or a negative number that no other session has."""
    level: int = 1
    """The highest level of the packets on `keys.sock` that it understands."""
    watches: bool = False
    asked_to_send: bool = False
    acknowledges: bool = False
    acked: set[str] = field(default_factory=set)
    """The fingerprints of the keys that it has acknowledged and that `last_sent` lists."""
    last_sent: KeyState | None = None
    """The last key state that it got since KEY_WATCH."""

    @property
    def acked_epoch(self) -> int | None:
        """The newest acknowledged epoch that `last_sent` lists; None if there is none."""
        entries = self.last_sent.entries if self.last_sent else ()
        return next((e.epoch for e in reversed(entries) if e.key.fingerprint in self.acked), None)


class SessionManagers:
    """All local sessions. Methods append actions to `out`."""

    def __init__(
        self,
        settings: Settings,
        out: list[Action],
        sent_with: Iterable[tuple[str, int]] = (),
        awaited: Iterable[SavedManager] = (),
    ) -> None:
        self._settings = settings
        self._out = out
        self._managers: dict[Session, SessionManager] = {}
        self._sent_with = dict(sent_with)
        """By fingerprint of a key, the sequence context to which the key belongs."""
        self._awaited = {manager.context: manager for manager in awaited}
        """The session managers of the last process that have not reconnected, or have not acknowledged a key again."""
        self._return_until = inf
        self._arrive_until = inf
        """Until then, `managers_arrive` after the first delivery of a key, unknown session managers may connect."""
        self._askers = [c.context for c in self._awaited.values() if c.asked_to_send]
        """The sequence contexts that ask to send, in the order in which they asked."""
        self._delivered: KeyState | None = None
        """The key state that was delivered last; None when a session has changed since."""

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def all(self) -> tuple[SessionManager, ...]:
        """Return every local session."""
        return tuple(self._managers.values())

    @property
    def sender(self) -> SessionManager | None:
        """Return the latest session of the context that asked to send first; None if it has no session now."""
        first = self._askers[0] if self._askers else None
        return next((c for c in reversed(self._managers.values()) if c.asked_to_send and c.context == first), None)

    @property
    def sends(self) -> bool:
        """Return whether a session manager, connected or awaited, asks to send."""
        return bool(self._askers)

    def saved(self) -> tuple[SavedManager, ...]:
        """Return the session managers to await after a restart: first those that ask to send, in their order."""
        there: dict[int, SavedManager] = dict(self._awaited)
        for manager in self._managers.values():
            context = manager.context
            if manager.watches and context > 0:
                acknowledges = manager.acknowledges or (context in there and there[context].acknowledges)
                there[context] = SavedManager(context, context in self._askers, acknowledges)
        askers = [there.pop(context) for context in self._askers if context > 0]
        return (*askers, *there.values())

    def sent_with(self) -> tuple[tuple[str, int], ...]:
        """Return, by fingerprint of a key, the context to which the key belongs; 0 if that context cannot return."""
        return tuple((fingerprint, max(context, NOBODY)) for fingerprint, context in self._sent_with.items())

    def is_blocked(self, key: Key) -> bool:
        """Return whether the sender must wait for another key, because `key` is spent or belongs to another context."""
        sender = self.sender
        return sender is not None and self._sent_with.get(key.fingerprint, sender.context) != sender.context

    def has(self, session: Session) -> bool:
        """Return whether a local session is open."""
        return session in self._managers

    def user_of(self, session: Session) -> int:
        """Return the user id of an open local session."""
        return self._managers[session].process.uid

    def all_acknowledged(self, entry: RingKey, now: float) -> bool:
        """Return whether each session manager that has ever acknowledged a key has acknowledged this one.

        A next key also waits for unknown session managers that may still connect.
        """
        if entry.slot is Slot.NEXT and now < self._arrive_until:
            return False
        if any(awaited.acknowledges for awaited in self._awaited.values()):
            return False
        return all(entry.key.fingerprint in c.acked for c in self._managers.values() if c.acknowledges)

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do."""
        return min(filter(isfinite, (self._return_until, self._arrive_until)), default=None)

    # --- what happens -------------------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """Begin to wait for the session managers of the last process."""
        self._return_until = now + self._settings.timing.managers_return

    def tick(self, now: float) -> None:
        """End the waits that are over. A session manager that has not returned does not count any more."""
        if now >= self._return_until:
            self._return_until = inf
            self._awaited.clear()
            self._review_askers()
        if now >= self._arrive_until:
            self._arrive_until = -inf

    def attach(self, session: Session, process: Process) -> None:
        """Add the session of a process that has connected to `keys.sock`."""
        self._managers[session] = SessionManager(session, process, -1 - session.number)

    def detach(self, session: Session) -> None:
        """Remove a session that has ended."""
        self._managers.pop(session, None)
        self._review_askers()

    def watch(self, session: Session, request: KeyWatch) -> None:
        """Process KEY_WATCH. A further one requests the key state again, or changes its fields."""
        manager, will_send, context = self._managers[session], request.will_send, request.context
        manager.watches, manager.last_sent, manager.asked_to_send = True, None, will_send
        manager.level = request.level
        manager.context = context or -1 - session.number
        returned = self._awaited.get(context)
        if returned is not None and not returned.acknowledges:
            del self._awaited[context]
        if will_send and manager.context not in self._askers:
            self._askers.append(manager.context)
        self._review_askers()
        sender = self.sender
        if will_send and sender is not None and sender.context != manager.context:
            self._out.append(SecondSender(manager.process.pid, sender.process.pid))

    def acknowledge(self, session: Session, epoch: int) -> None:
        """Record that a session manager has installed `epoch` for reception."""
        manager = self._managers[session]
        if manager.last_sent is None:
            return
        # A slow session manager may acknowledge a key that is retired. Later keys wait for it in this case too.
        manager.acknowledges = True
        self._awaited.pop(manager.context, None)
        manager.acked |= {entry.key.fingerprint for entry in manager.last_sent.entries if entry.epoch == epoch}

    def spend_key_of(self, session: Session) -> None:
        """Mark the key that this session may send with as spent: the session manager has lost its sequence numbers."""
        state = self._managers[session].last_sent
        for entry in state.entries if state is not None and state.sender_id is not None else ():
            if entry.send:
                self._sent_with[entry.key.fingerprint] = NOBODY
        self._delivered = None

    def deliver(self, state: KeyState, now: float) -> None:
        """Send `state` to every watcher that does not have it. Only the sender gets the sender id.

        A session manager that asks to send, but may not, gets no key to send with.

        An empty state is not sent. A daemon that has just started may have no keys, but its session managers must keep
        their keys.
        """
        if not state.entries or state == self._delivered:
            return
        self._delivered = state
        if self._arrive_until == inf:
            self._arrive_until = now + self._settings.timing.managers_arrive
        sender = self.sender
        key = next((e.key for e in state.entries if e.send), None)
        may_send = key is not None and state.sender_id is not None and not self.is_blocked(key)
        if key is not None and sender is not None and may_send:
            self._sent_with[key.fingerprint] = sender.context
            for oldest in list(self._sent_with)[:-SENT_WITH_LIMIT]:
                del self._sent_with[oldest]
        receive_only = replace(state, sender_id=None, entries=tuple(replace(e, send=False) for e in state.entries))
        for manager in self._managers.values():
            if not manager.watches:
                continue
            own_state = receive_only if manager.asked_to_send else replace(state, sender_id=None)
            if manager is sender and may_send:
                own_state = state
            if own_state != manager.last_sent:
                manager.acked &= {e.key.fingerprint for e in own_state.entries}
                manager.last_sent = own_state
                self._spend(manager.context, own_state)
                self._out.append(Send(manager.session, own_state))

    def _spend(self, context: int, state: KeyState) -> None:
        """Mark the keys of `context` that `state` does not list as spent. Their sequence numbers are lost."""
        listed = {entry.key.fingerprint for entry in state.entries}
        for fingerprint, sent in self._sent_with.items():
            if sent == context and fingerprint not in listed:
                self._sent_with[fingerprint] = NOBODY

    def _review_askers(self) -> None:
        self._delivered = None
        asking = {c.context for c in self._managers.values() if c.asked_to_send}
        self._askers = [m for m in self._askers if m in asking or m in self._awaited]
