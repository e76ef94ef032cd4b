"""What can be seen of a node from outside: frozen, so that nobody changes the node by it."""

from dataclasses import dataclass

from pskkey.core.consumers import Consumers
from pskkey.core.election import Election
from pskkey.core.events import Session
from pskkey.core.key_slots import KeySlot
from pskkey.core.keyring import Keyring
from pskkey.core.members import Members
from pskkey.model import HeldKey, Key, Member, Process, Role, Turn


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key that the node holds, `since` when in its turn (seconds, the node's clock). One at most is sent with."""

    epoch: int
    key: Key
    turn: Turn
    since: float


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """A local session. `sends`: its process is the one that may send."""

    process: Process
    watches: bool
    sends: bool
    acked_epoch: int | None


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node at one moment."""

    role: Role
    term: int
    master: Member | None
    """The master that it is a member of, or is."""
    master_session: Session | None
    """The session with the master, once that has welcomed it."""
    member_count: int
    """As master: the nodes that it serves, itself included. Else 1."""
    keys: tuple[KeyView, ...]
    """The oldest first."""
    keys_version: int
    """Rises with every change of the keys, their turns, or the sender ids."""
    sends_former_key: bool
    """Whether it still sends with the key that it came to its master with."""
    consumers: tuple[ConsumerView, ...]
    sender_is_blocked: bool
    """Whether the local session manager that sends must wait for another key than the current one."""

    @property
    def current(self) -> KeyView | None:
        """The key to send with."""
        return next((key for key in self.keys if key.turn is Turn.CURRENT), None)

    @property
    def next(self) -> KeyView | None:
        """The key that is being distributed."""
        return next((key for key in self.keys if key.turn is Turn.NEXT), None)

    @property
    def newest(self) -> KeyView | None:
        """The key whose turn comes last."""
        return self.keys[-1] if self.keys else None

    def held(self) -> tuple[HeldKey, ...]:
        """Return what JOIN says of the keys."""
        return tuple(HeldKey(key.epoch, key.key.fingerprint, send=key.turn is Turn.CURRENT) for key in self.keys)


def view_of(election: Election, keyring: Keyring, members: Members, consumers: Consumers) -> NodeView:
    """Return the view of a node that these are the parts of."""
    current, sender = keyring.current, consumers.sender
    return NodeView(
        role=election.role,
        term=election.term,
        master=election.master,
        master_session=election.master_session,
        member_count=members.count if election.role is Role.MASTER else 1,
        keys=tuple(KeyView(e.epoch, e.key, _turn(e, current), e.since) for e in keyring.entries),
        keys_version=keyring.version,
        sends_former_key=keyring.sends_former_key,
        consumers=tuple(ConsumerView(c.process, c.watches, c is sender, c.acked_epoch) for c in consumers.all),
        sender_is_blocked=current is not None and consumers.is_blocked(current.key),
    )


def _turn(entry: KeySlot, current: KeySlot | None) -> Turn:
    """Beside a former key the master's keys are not ours to send with yet: only one is sent with."""
    if entry is current:
        return Turn.CURRENT
    return Turn.PREVIOUS if entry.turn is Turn.CURRENT else entry.turn
