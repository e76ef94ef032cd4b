"""The state of a node as other parts of the daemon may read it, in frozen values."""

from dataclasses import dataclass

from pskkey.core.conditions import find_conditions
from pskkey.core.election import Election
from pskkey.core.events import Session
from pskkey.core.expiry import KeyExpiry
from pskkey.core.key_slots import RingKey
from pskkey.core.keyring import Keyring
from pskkey.core.members import Members
from pskkey.core.message_handler import MessageHandler
from pskkey.core.peers import Peers
from pskkey.core.session_managers import SessionManagers
from pskkey.core.settings import Settings
from pskkey.model import Condition, HeldKey, Key, Member, Process, Role, Slot


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key in its slot. `since`: the start of its time there (seconds, node's clock). One key at most is current."""

    epoch: int
    key: Key
    slot: Slot
    since: float


@dataclass(frozen=True, slots=True)
class ManagerView:
    """A local session. `sends`: it is the session of the sender of this node, which may be blocked."""

    process: Process
    watches: bool
    sends: bool
    acked_epoch: int | None
    level: int
    """The highest level of the packets on `keys.sock` that it understands."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node at one moment."""

    role: Role
    term: int
    master: Member | None
    """The node itself as master, or the master that it is a member of; None without a master."""
    master_address: str | None
    """The address at which the master has answered, or its first one. As master, the first address of this node."""
    master_session: Session | None
    """As member: the session with the master. Else None."""
    member_count: int
    """As master: the number of nodes in the group, itself included. Else 1."""
    keys: tuple[KeyView, ...]
    """In the order previous, current, next."""
    keys_version: int
    """Rises with every change of the keys or their slots, and, as member, of the sender ids."""
    sends_former_key: bool
    """Whether the node still sends with its former key (`former_keys`)."""
    managers: tuple[ManagerView, ...]
    conditions: tuple[Condition, ...]
    sender_is_blocked: bool
    """Whether the node's sender must wait for another key than the current one."""

    @property
    def current(self) -> KeyView | None:
        """Return the key to send with."""
        return next((key for key in self.keys if key.slot is Slot.CURRENT), None)

    @property
    def next(self) -> KeyView | None:
        """Return the key that is being distributed."""
        return next((key for key in self.keys if key.slot is Slot.NEXT), None)

    @property
    def newest(self) -> KeyView | None:
        """Return the last key of `keys`."""
        return self.keys[-1] if self.keys else None

    def held(self) -> tuple[HeldKey, ...]:
        """Return the keys as JOIN lists them."""
        return tuple(HeldKey(key.epoch, key.key.fingerprint, send=key.slot is Slot.CURRENT) for key in self.keys)


def view_of(
    keyring: Keyring,
    managers: SessionManagers,
    settings: Settings,
    election: Election,
    peers: Peers,
    members: Members,
    handler: MessageHandler,
    expiry: KeyExpiry,
    now: float,
) -> NodeView:
    """Return the view of the node that consists of these parts."""
    current, sender = keyring.current, managers.sender
    return NodeView(
        role=election.role,
        term=election.term,
        master=election.master,
        master_address=_master_address(election),
        master_session=election.master_session,
        member_count=len(members.ids) + 1 if election.role is Role.MASTER else 1,
        keys=tuple(KeyView(e.epoch, e.key, _turn(e, current), e.since) for e in keyring.entries),
        keys_version=keyring.version,
        sends_former_key=keyring.sends_former_key,
        managers=tuple(ManagerView(c.process, c.watches, c is sender, c.acked_epoch, c.level) for c in managers.all),
        conditions=find_conditions(settings, election, peers, members, handler, expiry, now),
        sender_is_blocked=current is not None and managers.is_blocked(current.key),
    )


def _master_address(election: Election) -> str | None:
    link = election.master_link
    if link is not None and link.address:
        return link.address
    return next(iter(election.master.addresses), None) if election.master is not None else None


def _turn(entry: RingKey, current: RingKey | None) -> Slot:
    """Return the slot to show: only the key that the node sends with is current."""
    if entry is current:
        return Slot.CURRENT
    return Slot.PREVIOUS if entry.slot is Slot.CURRENT else entry.slot
