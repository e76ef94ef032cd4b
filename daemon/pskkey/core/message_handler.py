"""The meaning of each message in a session with the master, with a client, or with a session manager of this node.

A *client* is a peer that has opened a session to this node. Each message has a case for each kind of session: the node
processes it, or closes the session with an error. No case relies on earlier messages: a peer may send any one.
"""

from dataclasses import replace
from typing import assert_never

from pskkey.core.actions import Action, Disconnect, Send
from pskkey.core.duplicates import Duplicates
from pskkey.core.election import Election
from pskkey.core.events import Accepted, Direction, Event, Received, Session
from pskkey.core.expiry import KeyExpiry
from pskkey.core.key_needs import KeyNeeds
from pskkey.core.keyring import Keyring
from pskkey.core.known_group import KnownGroup
from pskkey.core.levels import explain, find_stranger
from pskkey.core.loss_codes import NO_COMMON_LEVEL, NOT_MASTER, code_of_error
from pskkey.core.members import Members
from pskkey.core.notices import KeyRequestAnswered, KeyRequestRefused, TermLeap, UnexpectedMessage
from pskkey.core.peers import Peers
from pskkey.core.rekey_requests import local_user, member
from pskkey.core.roster import sender_ids
from pskkey.core.session_managers import SessionManagers
from pskkey.core.settings import Settings
from pskkey.core.transitions import GroupReceived, MergeWon, Transition
from pskkey.core.waiting_joins import JOINS_AT_ONCE, WaitingJoins
from pskkey.model import (
    ErrorMessage,
    Group,
    GroupChange,
    Handover,
    Heartbeat,
    Join,
    KeyAck,
    KeyNew,
    KeyNewReason,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Merge,
    Message,
    Process,
    Role,
)

TERM_LEAP = 1 << 20
"""How far the term of a client may be ahead of ours. For a peer to which we open a session, the limit is twice as high.
So the members of a master accept the term of the master, even if a client has raised it to the limit."""


class MessageHandler:
    """The handler of sessions and messages. Methods append actions to `out`."""

    def __init__(
        self,
        settings: Settings,
        peers: Peers,
        known: KnownGroup,
        election: Election,
        members: Members,
        keyring: Keyring,
        managers: SessionManagers,
        needs: KeyNeeds,
        expiry: KeyExpiry,
        out: list[Action],
    ) -> None:
        self._settings = settings
        self._peers = peers
        self._election = election
        self._known = known
        self._members = members
        self._keyring = keyring
        self._managers = managers
        self._needs = needs
        self._expiry = expiry
        self._out = out
        self._waiting = WaitingJoins()
        self.duplicates = Duplicates(settings, out)

    # --- sessions -----------------------------------------------------------------------------------------------

    def accepted(self, event: Accepted) -> None:
        """Add a session that a key client has opened."""
        self._members.opened(event)

    def attached(self, session: Session, process: Process) -> None:
        """Add the session of a session manager of this node."""
        self._managers.attach(session, process)

    def disconnected(self, session: Session, code: str, reason: str, now: float) -> list[Transition]:
        """Process the end of a session. `code` and `reason` are as in `events.Disconnected`."""
        match session.direction:
            case Direction.OUTBOUND:
                return self._election.take_end(session, code, reason, now)
            case Direction.INBOUND:
                self._waiting.remove(session)
                self._members.remove_broken(session, reason, now)
            case Direction.LOCAL:
                self._managers.detach(session)
            case _:
                assert_never(session.direction)
        return []

    def take_heartbeat(self, event: Event, now: float) -> list[Action] | None:
        """Take a heartbeat of a member, or on a standby session, and return the answers. None: it is no such event."""
        if not isinstance(event, Received) or event.session.direction is not Direction.INBOUND:
            return None
        if not isinstance(event.message, Heartbeat) or self._members.peer_of(event.session) is None:
            return None
        if not self._members.has(event.session):
            return [Send(event.session, Heartbeat())]
        if self._election.role is not Role.MASTER or not self._members.has_arrived(event.session):
            return None
        self._members.extend_deadline(event.session, now)
        return []

    def received(self, session: Session, message: Message, now: float) -> list[Transition]:
        """Process a message. Ignore a message on a session that we have closed."""
        match session.direction:
            case Direction.OUTBOUND:
                if self._election.outbound.standby.has(session):
                    self._from_successor(session, message, now)
                elif self._election.outbound.at(session):
                    return self._from_master(session, message, now)
            case Direction.INBOUND:
                if (peer := self._members.peer_of(session)) is not None:
                    return self._from_client(peer, message, now)
            case Direction.LOCAL:
                if self._managers.has(session):
                    self._from_manager(session, message, now)
            case _:
                assert_never(session.direction)
        return []

    # --- by sender ----------------------------------------------------------------------------------------------

    def _from_successor(self, session: Session, message: Message, now: float) -> None:
        standby = self._election.outbound.standby
        if isinstance(message, Heartbeat):
            standby.extend_deadline(session, now)
        else:
            self._close(session, None if isinstance(message, ErrorMessage) else self._report_unexpected(message))
            standby.lost(session, now)

    def _from_master(self, session: Session, message: Message, now: float) -> list[Transition]:
        self._election.outbound.extend_deadline(session, now)
        if self._waiting and session == self._election.master_session:
            self._refuse(self._waiting.take_until(now - self._settings.timing.heartbeat_interval))
        match message:
            case Group(term=term) | GroupChange(term=term) | Handover(term=term) | Merge(term=term) if self._leaps(
                session, term, 2 * TERM_LEAP
            ):
                return self._election.take_end(session, "protocol", f"it came with term {term}", now)
            case Group():
                return self._election.take_group(session, GroupReceived(message), now)
            case GroupChange():
                return self._take_change(session, message, now)
            case KeyState():
                if self._election.master_session == session:
                    self._keyring.adopt(message, now)
                    if (group := self._known.settle(session, now)) is not None:
                        self._keyring.note_group(group, now)
            case Heartbeat():
                self._election.outbound.answer(session, now)
            case Handover(master=named) if (link := self._election.master_link) and named.id == link.peer.id:
                self._protocol_error(session, message)
                return self._election.take_end(session, "protocol", "its HANDOVER names itself", now)
            case Handover():
                trusted = replace(message, members=self._known.take_handover(session, message.members))
                return self._election.take_handover(session, trusted, now)
            case Merge():
                return self._election.take_merge_answer(session, message, now)
            case ErrorMessage():
                if message.code == "duplicate_id":
                    self.duplicates.report(message.message, now)
                self._close(session)
                return self._election.take_end(session, code_of_error(message.code), message.message, now)
            case KeyRequest() | KeyResponse() | KeyWatch() | KeyAck() | KeyNew() | Join():
                self._protocol_error(session, message)
                return self._election.take_end(session, "protocol", "it broke the protocol", now)
            case _:
                assert_never(message)
        return []

    def _take_change(self, session: Session, change: GroupChange, now: float) -> list[Transition]:
        group = self._known.apply(session, change)
        if group is None:
            self._close(session, ErrorMessage("protocol", "GROUP_CHANGE does not fit the group that came before"))
            return self._election.take_end(session, "protocol", "its GROUP_CHANGE does not fit", now)
        is_settled = not change.has_keys and self._known.settled_in == session
        senders = change.senders
        if senders is None and not change.has_keys:
            senders = self._keyring.senders | sender_ids(change.members)
        received = GroupReceived(group, senders, session if is_settled else None)
        return self._election.take_group(session, received, now)

    def _from_client(self, peer: Accepted, message: Message, now: float) -> list[Transition]:
        session, address = peer.session, peer.address
        self._members.extend_deadline(session, now)
        is_master = self._election.role is Role.MASTER
        joined = self._members.has(session)
        if joined and not isinstance(message, Join | Merge | ErrorMessage):
            self._take_confirmation(session)
        match message:
            case KeyRequest() if joined:
                self._answer_key_request(session)
            case KeyRequest():
                self._answer_outsider(peer)
            case Join() if is_master:
                if not self._leaps(session, message.term) and not self._members.refuses(session, message, address, now):
                    self._election.rise_above_term(message.term)
                    self._members.set_term(self._election.term)
                    self._members.join(session, message, address, now)
                    if self._members.has_arrived(session):
                        self._needs.meet_foreign_keys(message)
            case Merge() if is_master and message.master.id == self._settings.me.id:
                text = "this is ourselves, or a node with our id"
                self._close(session, ErrorMessage("duplicate_id", text))
            case Merge(master=other) if is_master and find_stranger(other, [self._members.levels.as_group]) is not None:
                self._close(session, ErrorMessage(NO_COMMON_LEVEL, explain(self._members.levels.as_group, other)))
            case Merge() if is_master:
                if not self._leaps(session, message.term):
                    changes = self._election.answer_merge(session, message, now)
                    if joined or not any(isinstance(change, MergeWon) for change in changes):
                        self._close(session)  # if this master has won, JOIN follows on this session
                    return changes
            case Join(term=term) if self._settings.me.eligible and self._election.may_follow(term):
                self._waiting.add(session, message, now)
                self._out.append(Send(session, Heartbeat()))
            case Join() | Merge():
                self._refuse([session])
            case KeyAck() if joined:
                self._members.acknowledge(session, message)
            case KeyNew(reason) if joined:
                self._needs.request(member(self._members.id_of(session), reason), reason, now)
            case Heartbeat():
                pass  # the first one since JOIN; `take_heartbeat` takes the others
            case ErrorMessage():
                self._members.close(session, why=message.message)
            case KeyAck() | KeyNew() | KeyResponse() | KeyState() | KeyWatch() | Group() | GroupChange() | Handover():
                self._protocol_error(session, message)
            case _:
                assert_never(message)
        return []

    def _from_manager(self, session: Session, message: Message, now: float) -> None:
        match message:
            case KeyRequest():
                self._answer_key_request(session)
            case KeyWatch():
                self._managers.watch(session, message)
            case KeyAck(epoch):
                self._managers.acknowledge(session, epoch)
            case KeyNew(reason):
                if reason is KeyNewReason.SENDER_RESTARTED:
                    self._managers.spend_key_of(session)
                self._needs.request(local_user(self._managers.user_of(session)), reason, now)
            case Heartbeat():
                self._out.append(Send(session, Heartbeat()))
            case ErrorMessage():
                self._close(session)
            case KeyResponse() | KeyState() | Join() | Group() | GroupChange() | Merge() | Handover():
                self._protocol_error(session, message)
            case _:
                assert_never(message)

    @property
    def has_waiting_joins(self) -> bool:
        """Whether JOINs wait that `take_waiting` takes now."""
        return bool(self._waiting) and self._election.role in (Role.MASTER, Role.LISTENING)

    def take_waiting(self, now: float) -> list[Transition]:
        """As master, process the JOINs that wait the longest, a few at once. In a search for a master, refuse all."""
        if self._election.role is Role.LISTENING:
            self._refuse(self._waiting.take_until(now))
        if self._election.role is not Role.MASTER:
            return []
        return [t for session, join in self._waiting.take(JOINS_AT_ONCE) for t in self.received(session, join, now)]

    def _refuse(self, sessions: list[Session]) -> None:
        for session in sessions:
            self._close(session, ErrorMessage(NOT_MASTER, f"{self._settings.me.name} is not the master now"))

    # --- effects ------------------------------------------------------------------------------------------------

    def _take_confirmation(self, session: Session) -> None:
        """Process the first message of a member since its JOIN."""
        if (arrived := self._members.confirm(session)) is not None:
            self._peers.forget_failure(arrived.member.id)
            self._needs.take_member(arrived)

    def _answer_key_request(self, session: Session) -> None:
        current = self._keyring.current
        if current is None:
            self._close(session, ErrorMessage("no_key", "this node holds no key yet; try again shortly"))
        elif self._expiry.has_expired:
            text = "the key of this node has expired, because it has no master; try again later"
            self._close(session, ErrorMessage("no_key", text))
        else:
            self._out.append(Send(session, KeyResponse(current.key)))

    def _answer_outsider(self, peer: Accepted) -> None:
        """Answer KEY_REQ of a client that has not joined, if the operator allows that, and report it."""
        if not self._settings.key_requests:
            self._out.append(KeyRequestRefused(peer.address, peer.identity))
            text = "this node answers KEY_REQ only to members of its group ([tls] key_requests = false)"
            self._close(peer.session, ErrorMessage("key_requests_off", text))
            return
        if self._keyring.current is not None and not self._expiry.has_expired:
            self._out.append(KeyRequestAnswered(peer.address, peer.identity))
        self._answer_key_request(peer.session)

    def _protocol_error(self, session: Session, message: Message) -> None:
        self._close(session, self._report_unexpected(message), "it broke the protocol")

    def _report_unexpected(self, message: Message) -> ErrorMessage:
        """Report a message that may not come here, and return the ERROR for its sender."""
        name = type(message).__name__
        self._out.append(UnexpectedMessage(name))
        return ErrorMessage("protocol", f"{name} is not expected here")

    def _leaps(self, session: Session, term: int, leap: int = TERM_LEAP) -> bool:
        """Refuse a term that is too far ahead of ours: it would use up the terms. Return whether it is refused."""
        if term <= self._election.term + leap:
            return False
        text = f"term {term} is further ahead of {self._election.term} than elections lead"
        self._out.append(TermLeap(term, self._election.term))
        self._close(session, ErrorMessage("protocol", text))
        return True

    def _close(self, session: Session, error: ErrorMessage | None = None, why: str = "its session was closed") -> None:
        """Close a session after sending `error`. `why` is for the report that a member is lost."""
        match session.direction:
            case Direction.OUTBOUND:
                self._out.append(Disconnect(session, error))  # the caller informs the election of the end
            case Direction.INBOUND:
                self._waiting.remove(session)
                self._members.close(session, error, why)
            case Direction.LOCAL:
                self._out.append(Disconnect(session, error))
                self._managers.detach(session)
            case _:
                assert_never(session.direction)
