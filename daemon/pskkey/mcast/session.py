"""One member's multicast DTLS session: which key to send with, which to open with, and what to refuse.

Make before break: a KEY_STATE lists up to three keys, and all of them are installed side by side. A received record
names its epoch, and so its key. The session sends with the one key marked `send`, and drops a key that is no longer
listed. It never sends two records under one number: each key has its own sequence for each of our sender ids, and the
sequence outlives the key's absence (a restarted daemon may list the key again).

A session that begins has seen no record yet, so it cannot distinguish a recorded record from a new one. Therefore it
does not receive with an *earlier key*, which others may have sent with before. It may send with an earlier key. It
receives from the next key on, and asks the daemon for that key (`is_deaf`). When none comes, availability goes first
(`receive_with_earlier_keys`).

No I/O and no clock: datagrams and key states go in, datagrams and messages come out, the time comes as an argument.

A datagram is refused for the first of these reasons that holds:

    malformed             not exactly one DTLS 1.2 record, or epoch 0, which has no key
    unknown_epoch         no key of that epoch is installed for reception
    earlier_key           others may have sent with the key before this session began
    not_application_data  alert, handshake...: a group has no connection to close, and nothing to negotiate
    own                   our own record, returned by multicast loopback
    unknown_sender        a sender id that the group has not leased
    replay                seen before, or older than the window
    authentication        no holder of the key sent this record
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from pskkey.errors import BadPacket, PskkeyError
from pskkey.mcast.record import APPLICATION_DATA, SEQUENCE_LIMIT, RecordProtection, read_header_untrusted
from pskkey.mcast.replay import ReplayWindow
from pskkey.model import KeyEntry, KeyState

HIGH_WATER = SEQUENCE_LIMIT // 2
STATE_REQUEST_INTERVAL = 1.0
REMEMBERED_KEYS = 64


class Drop(StrEnum):
    """Why a datagram was not delivered; also the names of the counters."""

    MALFORMED = "malformed"
    UNKNOWN_EPOCH = "unknown_epoch"
    EARLIER_KEY = "earlier_key"
    NOT_APPLICATION_DATA = "not_application_data"
    OWN = "own"
    UNKNOWN_SENDER = "unknown_sender"
    REPLAY = "replay"
    AUTHENTICATION = "authentication"


class Need(StrEnum):
    """A request of a session to the daemon."""

    NEW_KEY = "new_key"
    KEY_STATE = "key_state"


class CannotSend(PskkeyError):
    """We may not send at this moment; the message states the cause and the remedy."""


class Message(NamedTuple):
    """A message of a member of the group: authentic, and delivered once."""

    sender_id: int
    epoch: int
    sequence: int
    plaintext: bytes


@dataclass(slots=True)
class _History:
    """The numbers sent and seen under one key: the next sequence of each of our sender ids, a window of each sender."""

    next_sequence: dict[int, int] = field(default_factory=dict)
    windows: dict[int, ReplayWindow] = field(default_factory=dict)
    senders: set[int] = field(default_factory=set)
    asked_for_new_key: bool = False


@dataclass(slots=True)
class _Installed:
    """One key of the current state, ready for use."""

    protection: RecordProtection
    history: _History
    fingerprint: str
    send: bool
    receive: bool
    is_earlier: bool

    @property
    def is_received(self) -> bool:
        """Whether records of this key are received."""
        return self.receive and not self.is_earlier

    def is_received_with(self, fingerprint: str) -> bool:
        """Return whether records of the key with this fingerprint are received."""
        return self.is_received and self.fingerprint == fingerprint


class GroupSession:
    """The state of one member.

    `need` is called when the daemon should make a new key (once for each key, at `high_water`) or send its state again
    (after a record of a newer epoch or an unlisted sender, at most once in `STATE_REQUEST_INTERVAL` seconds).

    `earlier_keys`: epoch and fingerprint of each key that others may have sent with before this session began.
    `own_records`: deliver our own records when loopback brings them back, instead of dropping them as `own`.
    `any_sender`: deliver every record that authenticates. The list of senders in a KEY_STATE may lack a member that has
    just joined, and it proves nothing: a holder of the key can name any sender. Without `any_sender`, a sender is known
    from the first state that lists it until the epoch ends, as in a wolfSSL peer. It stays known when a later state
    does not list it, for example because a new master has not heard of all members yet.
    `high_water` and `sequence_limit` bound the sequence numbers of each key; no limit can be over 2^40.

    `counters` has `sent`, `received` and one for every `Drop`.
    """

    def __init__(
        self,
        need: Callable[[Need], None] | None = None,
        *,
        earlier_keys: frozenset[tuple[int, str]] = frozenset(),
        own_records: bool = False,
        any_sender: bool = False,
        high_water: int = HIGH_WATER,
        sequence_limit: int = SEQUENCE_LIMIT,
    ) -> None:
        if not 0 < high_water <= sequence_limit <= SEQUENCE_LIMIT:
            raise ValueError("0 < high_water <= sequence_limit <= 2^40 is required")
        self.counters: Counter[str] = Counter()
        self._need = need
        self._earlier_keys = earlier_keys
        self._own_records = own_records
        self._any_sender = any_sender
        self._high_water = high_water
        self._sequence_limit = sequence_limit
        self._sender_id: int | None = None
        self._installed: dict[int, _Installed] = {}
        self._sending: _Installed | None = None
        self._histories: dict[tuple[int, str], _History] = {}
        self._last_state_request: float | None = None

    @property
    def sender_id(self) -> int | None:
        """Our sender id, 0..255, or None while none is leased to us."""
        return self._sender_id

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs whose records can be received, in ascending order."""
        return tuple(sorted(epoch for epoch, installed in self._installed.items() if installed.is_received))

    @property
    def send_epoch(self) -> int | None:
        """The epoch that `send` uses; None when it would raise CannotSend for want of a key or a sender id."""
        if self._sending is None or self._sender_id is None:
            return None
        return self._sending.protection.epoch

    @property
    def is_deaf(self) -> bool:
        """Whether we receive with no key, because all listed keys are earlier keys: we need a new one."""
        return bool(self._installed) and not self.epochs

    @property
    def is_hearing(self) -> bool:
        """Whether we receive with the key that, by the last key state, the group sends with."""
        return self._sending is not None and self._sending.is_received

    def receive_with_earlier_keys(self) -> tuple[int, ...]:
        """Give up waiting for a new key; return the epochs that are received from now on, as `apply` does.

        From now on a record that was recorded before this session began is delivered, once.
        """
        before = self.epochs
        self._earlier_keys = frozenset()
        for installed in self._installed.values():
            installed.is_earlier = False
        return tuple(e for e, installed in self._installed.items() if installed.is_received and e not in before)

    def apply(self, state: KeyState) -> tuple[int, ...]:
        """Install the new keys of a key state, send with the marked one, drop the keys that it no longer lists.

        Return, in the state's order, the epochs that are received from now on and were not before. The caller must
        acknowledge them to the daemon. Raises ValueError when the state contradicts itself: an epoch listed twice, or
        two keys to send with. Then nothing has changed.
        """
        if len({entry.epoch for entry in state.entries}) < len(state.entries):
            raise ValueError("a key state lists an epoch twice")
        if sum(entry.send for entry in state.entries) > 1:
            raise ValueError("a key state has two keys to send with")
        before = self._installed
        self._installed = {entry.epoch: self._install(entry) for entry in state.entries}
        self._sending = next((key for key in self._installed.values() if key.send), None)
        self._sender_id = state.sender_id
        for installed in self._installed.values():
            installed.history.senders |= state.senders
        # Only under the key that we send with. Another key may come from another partition, where another member may
        # have this id.
        if self._sending is not None and state.sender_id is not None:
            self._sending.history.next_sequence.setdefault(state.sender_id, 0)
        return tuple(
            epoch
            for epoch, installed in self._installed.items()
            if installed.is_received and not (epoch in before and before[epoch].is_received_with(installed.fingerprint))
        )

    def send(self, plaintext: bytes) -> bytes:
        """Return the datagram that carries `plaintext` (at most 2^14 bytes, else ValueError) to the group.

        Raises CannotSend when there is no key, the keys are receive-only, no sender id is leased to us, or the
        sequence numbers of the key are used up.
        """
        sending, sender_id = self._sending, self._sender_id
        if sending is None or sender_id is None:
            raise CannotSend(self._describe_obstacle())
        history = sending.history
        sequence = history.next_sequence[sender_id]
        if sequence >= self._sequence_limit:
            raise CannotSend(
                f"the sequence numbers of epoch {sending.protection.epoch} are used up; "
                "the daemon has been asked for a new key"
            )
        datagram = sending.protection.seal(sender_id, sequence, plaintext)
        history.next_sequence[sender_id] = sequence + 1
        self.counters["sent"] += 1
        if sequence + 1 >= self._high_water and not history.asked_for_new_key:
            history.asked_for_new_key = True
            self._ask(Need.NEW_KEY)
        return datagram

    def receive(self, datagram: bytes, now: float = 0.0) -> Message | None:
        """Return the message in an untrusted datagram, or None when it is refused; `counters` then has the reason.

        `now`: seconds of any monotonic clock, for the rate of `Need.KEY_STATE`. Raises nothing.
        """
        outcome = self._open_untrusted(datagram, now)
        if isinstance(outcome, Drop):
            self.counters[outcome] += 1
            return None
        self.counters["received"] += 1
        return outcome

    def _open_untrusted(self, datagram: bytes, now: float) -> Message | Drop:
        try:
            content_type, number = read_header_untrusted(datagram)
        except BadPacket:
            return Drop.MALFORMED
        epoch, sender_id, sequence = number >> 48, number >> 40 & 0xFF, number & 0xFF_FFFF_FFFF
        if epoch == 0:
            return Drop.MALFORMED
        installed = self._installed.get(epoch)
        if installed is None or not installed.receive:
            if self._is_newer(epoch):
                self._ask_for_state(now)
            return Drop.UNKNOWN_EPOCH
        if not installed.is_received:
            return Drop.EARLIER_KEY
        if content_type != APPLICATION_DATA:
            return Drop.NOT_APPLICATION_DATA
        history = installed.history
        own = sender_id in history.next_sequence
        if own and not self._own_records:
            return Drop.OWN
        if not own and sender_id not in history.senders:
            self._ask_for_state(now)
            if not self._any_sender:
                return Drop.UNKNOWN_SENDER
        window = history.windows.get(sender_id)
        if window is not None and not window.check(sequence):
            return Drop.REPLAY
        try:
            plaintext = installed.protection.open_body_untrusted(content_type, number, datagram)
        except BadPacket:
            return Drop.AUTHENTICATION
        if window is None:
            window = history.windows[sender_id] = ReplayWindow()
        window.update(sequence)
        return Message(sender_id, epoch, sequence, plaintext)

    def _install(self, entry: KeyEntry) -> _Installed:
        fingerprint = entry.key.fingerprint
        installed = self._installed.get(entry.epoch)
        if installed is None or installed.fingerprint != fingerprint or installed.protection.suite != entry.key.suite:
            protection = RecordProtection(entry.key, entry.epoch)
        else:
            protection = installed.protection
        return _Installed(
            protection,
            self._history(entry.epoch, fingerprint),
            fingerprint,
            send=entry.send,
            receive=entry.receive,
            is_earlier=(entry.epoch, fingerprint) in self._earlier_keys,
        )

    def _history(self, epoch: int, fingerprint: str) -> _History:
        """Return the history of a key, and move it to the end of the remembered ones; forget the oldest."""
        history = self._histories.pop((epoch, fingerprint), None) or _History()
        self._histories[epoch, fingerprint] = history
        while len(self._histories) > REMEMBERED_KEYS:
            del self._histories[next(iter(self._histories))]
        return history

    def _is_newer(self, epoch: int) -> bool:
        """Return whether an epoch is newer, by serial number arithmetic (RFC 1982): 1 comes after 65535."""
        newest = max(self._installed, default=epoch - 1)
        return 0 < (epoch - newest) % 65536 < 32768

    def _ask_for_state(self, now: float) -> None:
        last = self._last_state_request
        if last is None or now - last >= STATE_REQUEST_INTERVAL:
            self._last_state_request = now
            self._ask(Need.KEY_STATE)

    def _ask(self, need: Need) -> None:
        if self._need is not None:
            self._need(need)

    def _describe_obstacle(self) -> str:
        if not self._installed:
            return "the daemon has no key for this group yet; it comes when a master is elected or joined"
        if self._sending is None:
            return "every key is receive-only; sending starts with the next key, which the daemon has asked for"
        return "no sender id is leased to this member; attach to the daemon as a sender"
