"""What a node reports to its operator, a frozen value for each report; `pskkey.journal` has the sentences.

Nothing is decided by a report, and none holds a secret. `peer` is always the other node that the report is about.
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
    """The role of this node is another one."""

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
    """This node has become a member of a master."""

    peer: Member
    term: int


@dataclass(frozen=True, slots=True)
class JoinFailed(Notice):
    """A master or successor could not be joined, or a rival master not be asked. `code` is of an ERROR, or ours."""

    peer: Member
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class MasterLost(Notice):
    """The session with our master has ended."""

    peer: Member
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionRenewed(Notice):
    """The session with our master goes on in another one, which was opened with the active PSK."""

    peer: Member
    identity: str


@dataclass(frozen=True, slots=True)
class RenewalFailed(Notice):
    """The session with our master could not be renewed with the active PSK; it goes on with its own, `identity`."""

    peer: Member
    identity: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fenced(Notice):
    """A master was not followed: it speaks for `term`, and `seen` is newer."""

    peer: Member
    term: int
    seen: int


@dataclass(frozen=True, slots=True)
class HandedOver(Notice):
    """This master hands over to `peer`."""

    peer: Member


@dataclass(frozen=True, slots=True)
class TwoMasters(Notice):
    """This master has met another one, and asks it which of them stays."""

    peer: Advert


@dataclass(frozen=True, slots=True)
class Merged(Notice):
    """This master and another one have agreed which of them stays."""

    peer: Member
    winner: Member


@dataclass(frozen=True, slots=True)
class Slept(Notice):
    """This node did not run for so many seconds that it was surely replaced."""

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
    """A member has left this master."""

    peer: Member
    reason: str


@dataclass(frozen=True, slots=True)
class MemberRefused(Notice):
    """A node was refused as a member."""

    peer: Member
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class DuplicateMember(Notice):
    """A node was refused because a living member has its id."""

    peer: Member
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class BadJoin(Notice):
    """A node was refused because its JOIN breaks the protocol."""

    peer: Member
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class OwnIdElsewhere(Notice):
    """Another node has the id of this one."""

    node: str
    elsewhere: str


# --- keys -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyRequested(Notice):
    """A new key was asked for, and this master makes one."""

    reason: KeyNewReason


@dataclass(frozen=True, slots=True)
class KeyRequestPostponed(Notice):
    """`requester` asks for new keys too often; this request waits for so many seconds."""

    requester: str
    reason: KeyNewReason
    seconds: float


@dataclass(frozen=True, slots=True)
class ForeignKeyMet(Notice):
    """A joiner comes with a key of another group, of epoch `foreign`; this master makes one that is newer than both."""

    peer: Member
    foreign: int


@dataclass(frozen=True, slots=True)
class SuiteChanged(Notice):
    """The key in use is of another suite than is configured; this master makes one of the configured suite."""

    used: Suite
    configured: Suite


@dataclass(frozen=True, slots=True)
class KeyRolled(Notice):
    """This master has begun to distribute a new key."""

    epoch: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyChanged(Notice):
    """Another key is sent with from now on."""

    epoch: int
    fingerprint: str


# --- senders and local processes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SecondSender(Notice):
    """A local session manager asks to send beside another one."""

    pid: int
    sender_pid: int


@dataclass(frozen=True, slots=True)
class OwnSenderIdTaken(Notice):
    """The configured sender id of this node is another node's; it was leased `sender_id` instead."""

    configured: int
    sender_id: int


@dataclass(frozen=True, slots=True)
class SenderIdTaken(Notice):
    """The configured sender id of a member is another node's; it was leased `sender_id` instead."""

    peer: Member
    configured: int
    sender_id: int
    holder: str


@dataclass(frozen=True, slots=True)
class NoSenderId(Notice):
    """A member got no sender id, because all are leased."""

    peer: Member


# --- the protocol ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnexpectedMessage(Notice):
    """A message came where it is not allowed; its session was closed."""

    message: str


@dataclass(frozen=True, slots=True)
class TermLeap(Notice):
    """A peer claims a term that elections cannot have reached."""

    claimed: int
    own: int
