"""The reports of a node to its operator, as frozen values. `pskkey.daemon.event_table` has the sentences.

No decision depends on a report, and no report contains a secret. `peer` is the node that the report is about.
"""

from dataclasses import dataclass
from enum import StrEnum

from pskkey.model import Advert, KeyNewReason, Member, Role, Suite


@dataclass(frozen=True, slots=True)
class Notice:
    """Base of all reports."""


class Claim(StrEnum):
    """Why a node has become the master."""

    NO_BETTER = "no better candidate came forward"
    HANDED_OVER = "it was handed over to us"
    SUCCESSION = "we are next in the succession"


# --- the election ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoleChanged(Notice):
    """This node has changed its role from `was` to `role`."""

    was: Role
    role: Role
    term: int


@dataclass(frozen=True, slots=True)
class Elected(Notice):
    """This node has become the master."""

    term: int
    why: Claim


@dataclass(frozen=True, slots=True)
class MasterJoined(Notice):
    """This node has become a member of master `peer`."""

    peer: Member
    term: int


@dataclass(frozen=True, slots=True)
class JoinFailed(Notice):
    """This node could not join a master or successor, or ask a rival master. `code` is as in `attempts.Loss`."""

    peer: Member
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class MasterLost(Notice):
    """The session with the master has ended without a handover. `code` is as in `JoinFailed`."""

    peer: Member
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionRenewed(Notice):
    """A new session with the master has replaced the old one. `identity` is that of its PSK."""

    peer: Member
    identity: str


@dataclass(frozen=True, slots=True)
class RenewalFailed(Notice):
    """This node could not renew its session with the master. `identity` is that of the PSK in use."""

    peer: Member
    identity: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fenced(Notice):
    """This node refused the GROUP of a master: its `term` is below our term `seen`, or it names another master."""

    peer: Member
    term: int
    seen: int


@dataclass(frozen=True, slots=True)
class HandedOver(Notice):
    """This master hands over to `peer`."""

    peer: Member


@dataclass(frozen=True, slots=True)
class TwoMasters(Notice):
    """This master has met another one, and asks it which of the two stays master."""

    peer: Advert


@dataclass(frozen=True, slots=True)
class Merged(Notice):
    """This master and master `peer` have merged: `winner` stays master, the other one yields."""

    peer: Member
    winner: Member


@dataclass(frozen=True, slots=True)
class Slept(Notice):
    """This node, master or listening, did not run for more than `dead_after`, and listens again."""

    seconds: float
    was: Role


# --- members --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemberJoined(Notice):
    """A node has joined this master."""

    peer: Member
    address: str


@dataclass(frozen=True, slots=True)
class MemberLost(Notice):
    """The session of a member of this master has ended."""

    peer: Member
    reason: str


@dataclass(frozen=True, slots=True)
class MemberRefused(Notice):
    """This master refused a node, because it is of another group, or because the group or its address is full."""

    peer: Member
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class DuplicateMember(Notice):
    """This master refused a node because the master or a living member has its id."""

    peer: Member
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class BadJoin(Notice):
    """This master refused a JOIN that names another node or incarnation than the first JOIN of its session."""

    peer: Member
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class OwnIdElsewhere(Notice):
    """Another node has the id of this one, `node`. `elsewhere` describes the other node."""

    node: str
    elsewhere: str


# --- keys -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyRequested(Notice):
    """A requester has asked for a new key, and this master makes one."""

    reason: KeyNewReason


@dataclass(frozen=True, slots=True)
class KeyRequestPostponed(Notice):
    """`requester` asks for new keys too often. Its request is postponed by `seconds`."""

    requester: str
    reason: KeyNewReason
    seconds: float


@dataclass(frozen=True, slots=True)
class ForeignKeyMet(Notice):
    """A joiner sends with a key of another partition, of epoch `foreign`. This master makes a newer key."""

    peer: Member
    foreign: int


@dataclass(frozen=True, slots=True)
class SuiteChanged(Notice):
    """The current key has suite `used`. This master makes a key of the `configured` suite."""

    used: Suite
    configured: Suite


@dataclass(frozen=True, slots=True)
class NodesLeft(Notice):
    """The `nodes`, ids for the operator, have left the group and know its key. This master makes a newer key."""

    nodes: str


@dataclass(frozen=True, slots=True)
class KeyDistributed(Notice):
    """This master has begun to distribute a next key."""

    epoch: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyChanged(Notice):
    """This node has another current key."""

    epoch: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyRequestAnswered(Notice):
    """A client that has not joined got the current key by KEY_REQ. `identity` is that of its PSK."""

    address: str
    identity: str


@dataclass(frozen=True, slots=True)
class JoinerLeft(Notice):
    """A node at `address` sent JOIN, and its session ended before it was a member. It may have received the keys.

    `identity` is the PSK identity of its session.
    """

    address: str
    identity: str
    peer: Member


@dataclass(frozen=True, slots=True)
class KeyRequestRefused(Notice):
    """A client that has not joined sent KEY_REQ, which this node does not answer. `identity` is that of its PSK."""

    address: str
    identity: str


# --- senders and local processes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SecondSender(Notice):
    """Local session manager `pid` asks to send, but `sender_pid` is the sender."""

    pid: int
    sender_pid: int


@dataclass(frozen=True, slots=True)
class OwnSenderIdTaken(Notice):
    """The master has leased this node `sender_id` instead of the `configured` one."""

    configured: int
    sender_id: int


@dataclass(frozen=True, slots=True)
class SenderIdTaken(Notice):
    """This master has leased `sender_id` to `peer` instead of the `configured` one, which `holder` has."""

    peer: Member
    configured: int
    sender_id: int
    holder: str


@dataclass(frozen=True, slots=True)
class NoSenderId(Notice):
    """A member, or the master itself, got no sender id, because all are in use."""

    peer: Member


# --- the protocol ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnexpectedMessage(Notice):
    """A message arrived in a session where it is not allowed. The node closed the session."""

    message: str


@dataclass(frozen=True, slots=True)
class TermLeap(Notice):
    """A peer claims a term that elections cannot reach. The node refused it."""

    claimed: int
    own: int
