"""The daemon's status as values: what GetStatus returns, checked field by field.

Without pydantic, which takes longer to load than `pskkeyctl status` may last.
"""

from typing import Any, Final, NamedTuple, Self

from pskkey.errors import BadPacket

SCHEMA: Final = 1
_JOINED_ROLES: Final = ("client", "master")


class NodeStatus(NamedTuple):
    """This node."""

    id: str
    name: str
    priority: int
    eligible: bool
    version: str


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

    `acked_epoch` is news on the master only: others are not told of each acknowledgement. `psk_identity`, of the
    pre-shared key of its session, is known to the master only.
    """

    id: str
    name: str
    role: str
    address: str | None
    sender_id: int | None
    priority: int
    eligible: bool
    acked_epoch: int | None
    psk_identity: str | None


class SessionStatus(NamedTuple):
    """A local session manager."""

    pid: int
    uid: int
    sender: bool
    acked_epoch: int | None


class Status(NamedTuple):
    """What GetStatus returns, in schema 1. Fields that came later are passed over."""

    group: str
    role: str
    term: int
    node: NodeStatus
    master: MasterStatus | None
    keys: tuple[KeyStatus, ...]
    requests: tuple[RequestStatus, ...]
    sender_id: int | None
    members: tuple[MemberStatus, ...]
    sessions: tuple[SessionStatus, ...]
    counters: dict[str, int]
    counter_ages: dict[str, float]
    """Seconds since each counter rose last; without those that did not, and of all if the daemon does not tell."""
    loop_away_ms: float | None
    """The longest time in the last minute for which the daemon served nobody; None if it does not tell."""
    warnings: tuple[str, ...]
    """What is wrong at present, a sentence each."""

    @classmethod
    def parse_untrusted(cls, parameters: dict[str, Any]) -> Self:
        """Read the parameters of a reply. Raises BadPacket."""
        if parameters.get("schema") != SCHEMA:
            raise BadPacket("the daemon speaks another version of the status; use the pskkeyctl that came with it")
        status = _Fields(parameters, "")
        node = status.table("node")
        return cls(
            group=status.text("group"),
            role=status.text("role"),
            term=status.number("term"),
            node=NodeStatus(
                node.text("id"),
                node.text("name"),
                node.number("priority"),
                node.truth("eligible"),
                node.text("version"),
            ),
            master=_master_untrusted(status.table("master")) if status.has("master") else None,
            keys=tuple(
                KeyStatus(
                    key.number("epoch"),
                    key.text("suite"),
                    key.text("fingerprint"),
                    key.text("state"),
                    key.real("age_s"),
                )
                for key in status.tables("keys")
            ),
            requests=tuple(
                RequestStatus(request.text("reason"), request.real("due_s"))
                for request in (status.tables("requests") if "requests" in parameters else ())
            ),
            sender_id=status.maybe_number("sender_id"),
            members=tuple(map(_member_untrusted, status.tables("members"))),
            sessions=tuple(
                SessionStatus(
                    session.number("pid"),
                    session.number("uid"),
                    session.truth("sender"),
                    session.maybe_number("acked_epoch"),
                )
                for session in status.tables("sessions")
            ),
            counters=status.table("counters").numbers(),
            # These came later: a daemon that was not restarted since its upgrade does not have them.
            counter_ages=status.table("counter_ages_s").reals() if "counter_ages_s" in parameters else {},
            loop_away_ms=status.real("loop_away_ms") if "loop_away_ms" in parameters else None,
            warnings=status.texts("warnings") if "warnings" in parameters else (),
        )

    @property
    def joined(self) -> bool:
        """Whether this node has a master, be it itself."""
        return self.role in _JOINED_ROLES

    @property
    def current(self) -> KeyStatus | None:
        """The key that is sent with."""
        return next((key for key in self.keys if key.state == "current"), None)

    @property
    def next(self) -> KeyStatus | None:
        """The key that is being distributed."""
        return next((key for key in self.keys if key.state == "next"), None)

    @property
    def current_epoch(self) -> int | None:
        """The epoch of the key that is sent with."""
        current = self.current
        return current.epoch if current else None

    @property
    def late(self) -> tuple[MemberStatus, ...]:
        """The members that have acknowledged neither the current key nor the next one; empty but on the master."""
        if self.role != "master":
            return ()
        epochs = {key.epoch for key in self.keys if key.state in ("current", "next")}
        return tuple(member for member in self.members if epochs and member.acked_epoch not in epochs)


def _master_untrusted(master: "_Fields") -> MasterStatus:
    return MasterStatus(
        id=master.text("id"), name=master.text("name"), address=master.maybe_text("address"), port=master.number("port")
    )


def _member_untrusted(member: "_Fields") -> MemberStatus:
    return MemberStatus(
        id=member.text("id"),
        name=member.text("name"),
        role=member.text("role"),
        address=member.maybe_text("address"),
        sender_id=member.maybe_number("sender_id"),
        priority=member.number("priority"),
        eligible=member.truth("eligible"),
        acked_epoch=member.maybe_number("acked_epoch"),
        psk_identity=member.text_if_there("psk_identity"),
    )


class _Fields:
    """A JSON object at `place` in the status, whose fields are taken by name and type. All raise BadPacket."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise _not(place, "an object")
        self._values = value
        self._place = place

    def has(self, name: str) -> bool:
        return self._take(name) is not None

    def text(self, name: str) -> str:
        value = self._take(name)
        if not isinstance(value, str):
            raise _not(self._at(name), "text")
        return value

    def maybe_text(self, name: str) -> str | None:
        return self.text(name) if self.has(name) else None

    def text_if_there(self, name: str) -> str | None:
        """Return a text of a field that came later, which an older daemon does not have."""
        return self.maybe_text(name) if name in self._values else None

    def number(self, name: str) -> int:
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _not(self._at(name), "an integer")
        return value

    def maybe_number(self, name: str) -> int | None:
        return self.number(name) if self.has(name) else None

    def numbers(self) -> dict[str, int]:
        """Return all fields, which must be integers."""
        return {name: self.number(name) for name in self._values}

    def reals(self) -> dict[str, float]:
        """Return all fields, which must be numbers."""
        return {name: self.real(name) for name in self._values}

    def real(self, name: str) -> float:
        value = self._take(name)
        return value if isinstance(value, float) else float(self.number(name))

    def truth(self, name: str) -> bool:
        value = self._take(name)
        if not isinstance(value, bool):
            raise _not(self._at(name), "true or false")
        return value

    def table(self, name: str) -> "_Fields":
        return _Fields(self._take(name), self._at(name))

    def tables(self, name: str) -> list["_Fields"]:
        value = self._take(name)
        if not isinstance(value, list):
            raise _not(self._at(name), "a list")
        return [_Fields(item, f"{self._at(name)}.{index}") for index, item in enumerate(value)]

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._take(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _not(self._at(name), "a list of texts")
        return tuple(value)

    def _at(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def _take(self, name: str) -> object:
        try:
            return self._values[name]
        except KeyError:
            raise BadPacket(f"the daemon sent a status that is none: {self._at(name)} is missing") from None


def _not(place: str, what: str) -> BadPacket:
    # The place may hold a name that the daemon chose.
    return BadPacket(f"the daemon sent a status that is none: {ascii(place)[1:-1][:80]} is not {what}")
