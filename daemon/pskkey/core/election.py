"""The election: the role of a node in its group, and each change of that role. `role_table` shows it as one table.

A *group* has one *master*. Every other node of the group joins the master, and is then a *member*. A *term* is the
number of a mastership. The master sends GROUP to its members. GROUP lists the members and the *succession*: the order
in which they replace a lost master. A node announces its role and term in an *advert*. An advert is a *proof* that its
sender is master now, or only a *hint*, because it may be old (`freshness`). After a failed join a peer is in
*hold-down*: the node does not try to join it for a while. This time doubles with each failure.

Availability comes first. Every member has all keys, so every *eligible* member can become master. The operator can make
a node not eligible. When the network splits, each partition can have a master. When it heals, the masters find each
other, and all but one *yield*: they join the master that stays (`merge`).

LISTENING
    The node looks for a master. It joins a peer whose advert is a proof. If `discovery_window` ends without a proof, an
    eligible node becomes a *candidate*. After a wait it *claims*: it becomes master by its own decision. If it knows k
    better candidates (`rank`), the wait is k x `claim_step`, with exceptions (`Peers.claim_at`). So two nodes seldom
    claim at the same time. If they do, their groups merge. During the wait the node tries to join each peer that is a
    master by a hint. With such hints the wait is longer. No node claims while a proven master refuses it.
    If masters live that do not answer it, they may be busy, and it searches longer (`search`).
JOINING
    The node opens a session with one peer and sends JOIN. The peer accepts with GROUP. If the join fails, the search
    goes on until the node has a master or is master.
CLIENT
    The node is a member. Both ends of its session send heartbeats. After `dead_after` seconds of silence the session
    ends. When the pre-shared key (PSK) changes, a second session with the master replaces the first one (`renewal`).
    When it loses its master, it walks along the succession (`takeover`).
MASTER
    The node serves its members. Its term is above the term of each master that it has joined, and not below the term
    in a JOIN that it has accepted. A master can hand over: HANDOVER names the next master.

The election converges. In a connected network without faults, each master receives the adverts of all other masters. Of
two masters, one yields by a fixed order (`rank.merge_order`). So one master remains, and all other nodes find it by its
advert. If there is no master, an eligible node claims after its wait: only a living master can send the proof that
prevents it. Terms only rise: a node accepts no GROUP with a lower term than it has seen. A master that did not run for
`dead_after` seconds listens, because its members have replaced it.
"""

from collections.abc import Callable
from typing import assert_never

from pskkey.core import notices
from pskkey.core.actions import Action, Disconnect
from pskkey.core.addresses import AddressBook
from pskkey.core.attempts import Outbound, as_member
from pskkey.core.events import Session
from pskkey.core.known_group import KnownGroup
from pskkey.core.links import Link, Phase
from pskkey.core.loss_codes import NOT_MASTER, REFUSALS
from pskkey.core.merge import hold_rival_down
from pskkey.core.merger import Merger
from pskkey.core.peers import Failure, Peers
from pskkey.core.search import Attempt, BecomeMaster, Search
from pskkey.core.settings import Settings
from pskkey.core.takeover import MOST_SHORT, SHORT, Takeover, successors
from pskkey.core.transitions import GroupReceived, Leading, SteppedDown, Transition, WithoutMaster
from pskkey.model import Advert, Handover, Join, Member, Merge, PskName, Role


class Election:
    """The role of a node. Methods append actions to `out`, and return the transitions that they cause."""

    def __init__(
        self,
        settings: Settings,
        peers: Peers,
        book: AddressBook,
        known: KnownGroup,
        out: list[Action],
        make_join: Callable[[], Join],
        make_merge: Callable[[], Merge],
    ) -> None:
        self._settings, self._peers, self._known, self._out = settings, peers, known, out
        self._make_join, self._make_merge = make_join, make_merge
        self.outbound = Outbound(settings, book, out)
        self._merger = Merger(settings, peers, self.outbound, out, make_merge)
        self._search = Search(settings, peers)
        self._takeover: Takeover | None = None
        """The present walk along the succession. Then there is no search."""
        self._short_sessions = 0
        """How many sessions with masters, one after the other, have lasted less than SHORT."""
        self._yields_to: Handover | None = None
        """The HANDOVER for the members, while this master yields to another node."""
        self.role, self.term = Role.LISTENING, 0
        self.read_until = float("-inf")
        """This node has read what had arrived before this time. Silence after it does not count yet."""
        self._transitions: list[Transition] = []

    @property
    def master(self) -> Member | None:
        """Return the master of this node, which may be this node itself; None without a master."""
        if self.role is Role.MASTER:
            return self._settings.me
        return link.peer if (link := self.master_link) else None

    @property
    def master_link(self) -> Link | None:
        """Return the link to the master if this node is a member, else None."""
        return self.outbound.link if self.role is Role.CLIENT else None

    @property
    def master_session(self) -> Session | None:
        """Return the session of `master_link`."""
        return link.session if (link := self.master_link) else None

    def may_follow(self, term: int) -> bool:
        """Return whether this node may soon follow its master, or a master that it has lost, of `term`."""
        return term == self.term and (self.role is Role.CLIENT or (self.role is Role.JOINING and bool(self._takeover)))

    def next_deadline(self, now: float) -> float | None:
        """Return when `tick` must be called next."""
        if self.outbound.link or not self._search.is_on:
            return self.outbound.next_deadline()
        return self._search.next_deadline(now)

    def listen(self, now: float) -> list[Transition]:
        """Start a new search for a master."""
        self._listen(now)
        return self._changes()

    def _listen(self, now: float) -> None:
        self._takeover = None
        self._become(Role.LISTENING)
        self._search.begin(now)

    def take_advert(self, advert: Advert, now: float) -> list[Transition]:
        """Process the advert of another node, which `peers` has recorded already."""
        if advert.role is not Role.MASTER or not self._peers.may_join(advert, now):
            return []
        link = self.outbound.link
        match self.role:
            case Role.LISTENING:
                if self._peers.is_proven(advert.id, now):
                    self._join(as_member(advert), self._settings.timing.join_timeout, now)
                else:
                    self._search_on(now)
            case Role.JOINING if self._takeover:
                is_busy = self._takeover.is_detour or (link is not None and link.phase is Phase.GREETING)
                asked = link.peer if link else None
                if not is_busy and self._takeover.detour(self._peers.claims(now), self.term, asked) is not None:
                    self.outbound.drop()
                    self._takeover.position = max(self._takeover.position, 0)
                    self._try_successor(now)
            case Role.JOINING:
                # An attempt that follows a hint ends when a proof arrives.
                is_hint = link and link.phase is Phase.CONNECTING and not self._peers.is_proven(link.peer.id, now)
                if is_hint and self._peers.is_proven(advert.id, now):
                    self.outbound.drop()
                    self._search.resume()
                    self._join(as_member(advert), self._settings.timing.join_timeout, now)
            case Role.CLIENT | Role.MASTER:
                pass  # a member trusts its session more than an advert; a master asks its rivals in `ask_rival`
            case _:
                assert_never(self.role)
        return self._changes()

    def greet(self, session: Session, psk: PskName, address: str, now: float) -> None:
        """Send MERGE or JOIN on an outbound session that has opened with `psk` at `address`."""
        if (link := self.outbound.opened(session, psk, address, now)) is not None:
            asks = self.role is Role.MASTER and not link.yields
            self.outbound.greet(link, self._make_merge() if asks else self._make_join())

    def take_end(self, session: Session, code: str, reason: str, now: float) -> list[Transition]:
        """Process the end of an outbound session, or the failure to open it. `code` and `reason` are as in `Loss`."""
        if (loss := self.outbound.ended(session, code, reason, now)) is not None:
            self._link_failed(*loss, now)
        return self._changes()

    def take_group(self, session: Session, received: GroupReceived, now: float) -> list[Transition]:
        """Process GROUP or GROUP_CHANGE. The first one accepts this node.

        A lower term or another master in it ends the session.
        """
        link, group = self.outbound.at(session), received.group
        if link is None or link.phase is Phase.CONNECTING or (self.role is Role.MASTER and not link.yields):
            return []  # in CONNECTING the session has not opened, so the peer cannot answer yet
        if group.term < self.term or group.master != link.peer.id:
            self._out += [notices.Fenced(link.peer, group.term, self.term), Disconnect(session)]
            return self.take_end(session, "fenced", "its GROUP has an old term or another master", now)
        if link.yields and link.joined_as is not None and not link.joined_as.has_same_keys(self._make_join()):
            self.outbound.drop()  # the master knows other keys than this node has now, so this node asks again
            return []
        self.term = group.term
        self.outbound.standby.aim(group, self._settings.me.id, now)
        self.outbound.set_peer_times(link, group.times, now)
        link.peer = next((m for m in group.members if m.id == link.peer.id), link.peer)  # with its latest addresses
        if link.phase is Phase.GREETING:
            self.outbound.welcomed(link, now)
            self._peers.forget_failures(link.peer.id)
            self._takeover = None
            if self.role is Role.CLIENT:
                self._out.append(notices.SessionRenewed(link.peer, link.psk.identity))
            else:
                if self.role is Role.MASTER:
                    self._yields_to = Handover(link.peer, group.term)
                    self._out.append(notices.Merged(link.peer, link.peer))
                self._become(Role.CLIENT)
                self._out.append(notices.MasterJoined(link.peer, group.term))
        return [*self._changes(), received]

    def take_handover(self, session: Session, handover: Handover, now: float) -> list[Transition]:
        """Process HANDOVER of the master: become master if it names this node, else join the node that it names."""
        master = self.master
        if master is None or self.master_session != session or handover.term < self.term:
            return []
        self._count_session(now)
        self.outbound.drop()
        # The last advert of the old master is outdated. The hold-down keeps this node from joining it again.
        self._peers.hold_down(master.id, now, self._settings.timing.rival_hold_max)
        if handover.master.id == self._settings.me.id:
            # If another node has our id, HANDOVER may mean that node. Then `handover.term` may be as low as ours.
            self._claim(max(handover.term, self.term + 1), notices.Claim.HANDED_OVER, handover.members)
        elif self._short_sessions >= MOST_SHORT:
            self._listen(now)
        else:
            # If the node that HANDOVER names was not in our group, it is a master that has won a merge.
            self._takeover = Takeover((handover.master, *self._successors(handover.master.id)), 0)
            self._try_successor(now)
        return self._changes()

    def step_down(self, successor: Member, now: float) -> list[Transition]:
        """As master, hand over to the member `successor`, and join it."""
        self._out.append(notices.HandedOver(successor))
        self._peers.clear_hold_down(successor.id)
        self._yields_to = Handover(successor, self.term + 1)
        self.outbound.drop()
        self._takeover = Takeover((successor,), 0, hands_over=True)
        self._try_successor(now)
        return self._changes()

    def rise_above_term(self, term: int) -> None:
        """As master, take a term above the `term` of a joiner if our term is lower."""
        self.term = term + 1 if term > self.term else self.term

    # --- two masters --------------------------------------------------------------------------------------------

    def answer_merge(self, session: Session, merge: Merge, now: float) -> list[Transition]:
        """Answer the MERGE of another master: decide which of the two masters stays, and act on it."""
        self._transitions += self._merger.answer(session, merge, now)
        return self._changes()

    def take_merge_answer(self, session: Session, merge: Merge, now: float) -> list[Transition]:
        """Act on the decision of the master that this master has asked."""
        link = self.outbound.at(session)
        if link is None or self.role is not Role.MASTER or link.yields:
            return []
        if self._merger.is_wrong_answer(link, merge):
            self._link_failed("protocol", "its answer to MERGE names a wrong master or winner", now)
        else:
            self._transitions += self._merger.take_answer(link, merge, self._make_join(), now)
        return self._changes()

    def ask_rival(self, members: frozenset[str], now: float) -> None:
        """As master, ask a rival which of the two stays. A rival is another master. `members` are our members' ids."""
        self._merger.ask_rival(members, now)

    # --- time ---------------------------------------------------------------------------------------------------

    def restart_after_sleep(self, seconds: float, now: float) -> list[Transition]:
        """Listen again after `seconds` without running. Another node may be master, and a planned claim is outdated."""
        if self.role not in (Role.MASTER, Role.LISTENING):
            return []  # the session shows whether its peer still lives
        self._out.append(notices.Slept(seconds, self.role))
        self.outbound.drop()
        return self.listen(now)

    def tick(self, now: float) -> list[Transition]:
        """Do what is due at `now`."""
        if self.outbound.link is not None:
            if (loss := self.outbound.tick(now, self.read_until)) is not None:
                self._link_failed(*loss, now)
        else:
            self._search_on(now)
        return self._changes()

    def _search_on(self, now: float) -> None:
        match self._search.step(self.read_until, self.outbound.patience, now):
            case Attempt(peer, timeout, in_all, patience):
                self._join(peer, timeout, now, in_all=in_all, patience=patience)
            case BecomeMaster():
                self._claim(self.term + 1, notices.Claim.NO_BETTER)
            case None:
                pass

    # --- changes of the role ------------------------------------------------------------------------------------

    def _become(self, role: Role) -> None:
        self._search.end()
        if role is not self.role:
            was, self.role = self.role, role
            self._out.append(notices.RoleChanged(was, role, self.term))
            if role in (Role.LISTENING, Role.MASTER):
                self.outbound.standby.end()
            if was is Role.MASTER:
                self._transitions.append(SteppedDown(self._yields_to))
                self._yields_to = None
            if role in (Role.LISTENING, Role.JOINING) or was is Role.MASTER:
                self._transitions.append(WithoutMaster())

    def _changes(self) -> list[Transition]:
        """Return the transitions since the last call."""
        changes, self._transitions = self._transitions, []
        return changes

    def _claim(self, term: int, why: notices.Claim, inherited: tuple[Member, ...] = ()) -> None:
        self.term, self._takeover = max(term, self.term), None
        self._become(Role.MASTER)
        self._out.append(notices.Elected(self.term, why))
        self._transitions.append(Leading(inherited))

    def _join(
        self, peer: Member, timeout: float, now: float, *, in_all: bool = False, patience: float | None = None
    ) -> None:
        self._search.interrupt()
        self._become(Role.JOINING)
        self.outbound.nodes = max(len(self._known.latest.members) if self._known.latest else 0, len(self._peers))
        link = self.outbound.open(peer, timeout, now, in_all=in_all, patience=patience)
        if link.phase is Phase.GREETING:
            self.outbound.greet(link, self._make_join())

    def _link_failed(self, code: str, reason: str, now: float) -> None:
        if self.role is Role.CLIENT:
            self._count_session(now)
        if (link := self.outbound.forget()) is None:
            return
        if self.role is Role.CLIENT:
            self._out.append(notices.MasterLost(link.peer, code, reason))
            if self._short_sessions < MOST_SHORT:
                self._takeover = Takeover(self._successors(link.peer.id), -1)
                # The kernel of a frozen node still opens TCP. A node that closed the session is alive, or refuses TCP.
                patience = 0.0 if code == "timeout" else None
                self._join(link.peer, self._settings.timing.reconnect_timeout, now, in_all=True, patience=patience)
                return
        takeover = self._takeover
        if takeover and takeover.is_detour and code not in REFUSALS:
            self._peers.forget_claim(link.peer.id)
            self._try_successor(now)
            return
        if link.was_standby and takeover and code == "lost":
            self._try_successor(now)  # the successor may have restarted since the session was opened
            return
        if takeover and takeover.position >= 0 and code == NOT_MASTER:
            takeover = self._takeover = None  # it still reaches the lost master, or has joined another one
        is_new = self._peers.note_failure(link.peer.id, Failure(code, reason, link.address, now))
        if is_new and (self.role is Role.JOINING or self._peers.is_proven(link.peer.id, now)):
            self._out.append(notices.JoinFailed(link.peer, code, reason))
        if code == NOT_MASTER:
            self._peers.forget_claim(link.peer.id)
        if self.role is Role.MASTER:
            if hold_rival_down(self._peers, link, code, self.term, self._settings.timing, now):
                self._yields_to = Handover(link.peer, self.term)
                self._listen(now)
            return
        self._peers.hold_down(link.peer.id, now, self._settings.timing.hold_down_max, code)
        if takeover and takeover.hands_over and link.phase is Phase.CONNECTING:
            self._peers.handover_failed(link.peer.id, now)
        if takeover and code not in REFUSALS:  # a node that refuses us may be the master: do not try the next one
            takeover.position += 1
            self._try_successor(now)
            return
        self._listen(now)
        is_alive = self._peers.is_proven(link.peer.id, now)
        self._search.resume_after_failure(is_alive, self.outbound.patience, now)
        self._search_on(now)

    def _count_session(self, now: float) -> None:
        """Count the session with the master, which ends, if it was short."""
        link = self.outbound.link
        is_short = link is not None and now < link.joined_at + SHORT
        self._short_sessions = self._short_sessions + 1 if is_short else 0

    def _successors(self, without: str) -> tuple[Member, ...]:
        return self.outbound.standby.reachable_first(successors(self._known.latest, without))

    def _try_successor(self, now: float) -> None:
        takeover = self._takeover
        peer = takeover.next(self._peers.claims(now), self.term) if takeover else None
        if peer is None:
            self._listen(now)
        elif peer.id == self._settings.me.id:
            self._claim(self.term + 1, notices.Claim.SUCCESSION)
        else:
            self._join(peer, self._settings.timing.successor_timeout, now)
