"""The daemon's status as values: the result of GetStatus, checked field by field.

Without pydantic, which takes longer to load than `pskkeyctl status` may last.
"""

from typing import Any, Final, NamedTuple, Self

from pskkey.errors import BadPacket
from pskkey.tools.ctl.typed_json import read_untrusted

SCHEMA: Final = 1
_JOINED_ROLES: Final = ("client", "master")


class NodeStatus(NamedTuple):
    """This node."""

    id: str
    name: str
    priority: int
    eligible: bool
    version: str
    speaks: tuple[int, ...] = ()
    """The lowest and the highest protocol level; empty if the daemon does not report it."""


class MasterStatus(NamedTuple):
    """The master that this node knows."""

    id: str
    name: str
    address: str | None
    port: int


class KeyStatus(NamedTuple):
    """A key that this node holds; `state` is current, next or previous, `age_s` is in seconds."""

    epoch: int
    suite: str
    fingerprint: str
    state: str
    age_s: float


class RequestStatus(NamedTuple):
    """A request for a new key that is not served yet, and in how many seconds it is due."""

    reason: str
    due_s: float


class MemberStatus(NamedTuple):
    """A member of the group.

    `acked_epoch` is up to date on the master only: the master does not report each acknowledgement to the others.
    `psk_identity` is that of the pre-shared key of its session; only the master knows it.
    """

    id: str
    name: str
    role: str
    address: str | None
    sender_id: int | None
    priority: int
    eligible: bool
    acked_epoch: int | None
    psk_identity: str | None = None
    version: str = ""
    speaks: tuple[int, ...] = ()


class SessionStatus(NamedTuple):
    """A local session manager."""

    pid: int
    uid: int
    sender: bool
    acked_epoch: int | None
    level: int = 1


class ConditionStatus(NamedTuple):
    """A present reason why this node is in no group, or why its group is not whole. `since_s` is in seconds."""

    kind: str
    peer: str | None
    address: str | None
    text: str
    remedy: str
    since_s: float


class Status(NamedTuple):
    """The result of GetStatus, in schema 1, with its field names. Unknown fields, of a later daemon, are skipped."""

    group: str
    role: str
    term: int
    node: NodeStatus
    master: MasterStatus | None
    keys: tuple[KeyStatus, ...]
    sender_id: int | None
    members: tuple[MemberStatus, ...]
    sessions: tuple[SessionStatus, ...]
    counters: dict[str, int]
    # These fields came later: a daemon that was not restarted since its upgrade does not send them.
    requests: tuple[RequestStatus, ...] = ()
    counter_ages_s: dict[str, float] = {}  # noqa: RUF012 - it is never changed
    """Seconds since each counter rose last; without those that never rose. Empty if the daemon does not report it."""
    loop_away_ms: float | None = None
    """The longest time in the last minute for which the daemon served nobody; None if it does not report it."""
    warnings: tuple[str, ...] = ()
    """The present troubles, a sentence each."""
    level: int | None = None
    """The protocol level of the group."""
    held_back_by: tuple[str, ...] = ()
    """The names of the members that speak no higher level, if others do."""
    conditions: tuple[ConditionStatus, ...] = ()
    """The same troubles, with their parts; empty if the daemon does not report them."""

    @classmethod
    def parse_untrusted(cls, parameters: dict[str, Any]) -> Self:
        """Read the parameters of a reply. Raises BadPacket."""
        if parameters.get("schema") != SCHEMA:
            raise BadPacket("the daemon's status has another version; use the pskkeyctl that came with the daemon")
        try:
            return read_untrusted(cls, parameters)
        except BadPacket as error:
            raise BadPacket(f"the daemon sent a malformed status: {error}") from None

    @property
    def joined(self) -> bool:
        """Whether this node has a master; it may be the master itself."""
        return self.role in _JOINED_ROLES

    @property
    def current(self) -> KeyStatus | None:
        """The key to send with."""
        return next((key for key in self.keys if key.state == "current"), None)

    @property
    def next(self) -> KeyStatus | None:
        """The key that is being distributed."""
        return next((key for key in self.keys if key.state == "next"), None)

    @property
    def current_epoch(self) -> int | None:
        """The epoch of the key to send with."""
        current = self.current
        return current.epoch if current else None

    @property
    def late(self) -> tuple[MemberStatus, ...]:
        """The members that have acknowledged neither the current key nor the next one. Only the master has any."""
        if self.role != "master":
            return ()
        epochs = {key.epoch for key in self.keys if key.state in ("current", "next")}
        return tuple(member for member in self.members if epochs and member.acked_epoch not in epochs)
