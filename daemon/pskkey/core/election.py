"""The election: what a node is in its group, and every way in which that changes (`role_table` shows all at once).

Theory of operation
===================

Availability comes first. Every node holds the whole key state, so any eligible node can be the master, and a network
that falls apart may have one in each part; when it heals, the masters find each other and one of them yields.

Roles:

LISTENING
    We look for a master. An advert that proves that its node is master now (`freshness`): join it at once. When
    `discovery_window` is over and there is none, those are tried for HINTS_FOR that mere hints call master; then the
    best candidate we know of claims; the k-th best waits k x `claim_step` for a better one to do so first, and a little
    longer if one would in the same moment. That is only a courtesy that saves merges, and bounded: nothing relies on
    the candidates knowing of each other. A node that is not eligible goes on listening.
JOINING
    We try to open a session with one node and to be welcomed by it (JOIN, answered by GROUP). Who fails is left alone
    for a while (hold-down, doubling); then the search goes on. Nothing here ever gives up.
CLIENT
    We are a member. The session is the proof of life, both ways: heartbeats, and `dead_after` of silence is a death.
    When our PSK changes, a second session to the same master takes the place of the first (`renewal`).
MASTER
    We serve the group. Our term is above every term that we have seen.

When a client loses its master, it does not listen: everybody was told the succession beforehand. It tries the same
master once more, briefly (a dropped connection is not a death), and then walks the succession: itself when it comes to
its own name, otherwise the next live one. Somebody who is alive but not yet master (it may notice the death up to
a heartbeat later than ours) answers `not_master`, and is asked again until `takeover_patience` is over; then it must
still have the master that we lost, and we listen. A member that an advert calls master of a newer term is asked out of
turn, once; no advert ends the walk.

Why it converges: in a connected and quiet network every master's advert reaches every other master, and of two masters
one yields for good, by an order (`rank.merge_order`) on facts that do not change while it is quiet; so their number
falls to one. A node without a master either finds that one by its advert, or, if there is none, some eligible node's
claim time comes, because nothing but the proof of a master stops the wait. Terms only rise: a node takes GROUP from no
master of a term lower than it has seen, a master that meets a higher term (in JOIN or MERGE) goes above it, and one
that was asleep for `dead_after` does not trust itself: it was surely replaced, so it listens first.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from pskkey.core import notices
from pskkey.core.actions import Action, Disconnect, Send
from pskkey.core.attempts import BACKED_UP_AFTER, HINTS_FOR, Link, Listening, Outbound, Phase, as_member
from pskkey.core.events import Session
from pskkey.core.known_group import KnownGroup
from pskkey.core.merge import Rivals, above_both, winner
from pskkey.core.peers import Peers
from pskkey.core.settings import Settings
from pskkey.core.takeover import Takeover, successors
from pskkey.core.transitions import Leading, MergeWon, SteppedDown, Transition, WithoutMaster
from pskkey.model import Advert, Group, Handover, Join, Member, Merge, PskName, Role

NOT_MASTER = "not_master"
REFUSALS = frozenset({"busy", "duplicate_id", "group_full", "wrong_group"})  # a master lives, but is not for us


class Election:
    """The state machine above. Methods append what must be done to `out`, and return what has changed."""

    def __init__(
        self,
        settings: Settings,
        peers: Peers,
        known: KnownGroup,
        out: list[Action],
        make_join: Callable[[], Join],
        make_merge: Callable[[], Merge],
    ) -> None:
        self._settings = settings
        self._peers = peers
        self._rivals = Rivals(settings)
        self._known = known
        self._out = out
        self._make_join = make_join
        self._make_merge = make_merge
        # What we are in the middle of: at most one outbound session (or two, see `renewal`), and one of the other two.
        self.outbound = Outbound(settings, out)
        self._takeover: Takeover | None = None
        self._listening: Listening | None = None
        self._interrupted: Listening | None = None
        self.role = Role.LISTENING
        self.term = 0
        self._yields_to: Handover | None = None
        """As a master that steps down in favour of another: what to tell its clients."""
        self._transitions: list[Transition] = []

    # --- what the node reads ------------------------------------------------------------------------------------

    @property
    def master(self) -> Member | None:
        """The master that we are a member of, or are; None while there is none."""
        if self.role is Role.MASTER:
            return self._settings.me
        return link.peer if (link := self.master_link) else None

    @property
    def master_link(self) -> Link | None:
        """The session with the master, once it has welcomed us; when it was renewed, the one that replaces it."""
        return self.outbound.link if self.role is Role.CLIENT else None

    @property
    def master_session(self) -> Session | None:
        """The name of that session."""
        return link.session if (link := self.master_link) else None

    def next_deadline(self, now: float) -> float | None:
        """Return when `tick` must be called next."""
        if self.outbound.link:
            return self.outbound.next_deadline()
        if self._takeover:
            return self._takeover.retry_at
        if self._listening is None:
            return None
        wake = self._listening.claim_at or self._listening.until
        release = self._peers.next_release(now)
        return wake if release is None else min(wake, release)

    # --- what happens to us -------------------------------------------------------------------------------------

    def listen(self, now: float) -> list[Transition]:
        """Start looking for a master, from nothing."""
        self._listen(now)
        return self._changes()

    def _listen(self, now: float) -> None:
        self._takeover = None
        self._become(Role.LISTENING)
        window = self._settings.timing.discovery_window
        self._listening = Listening(now + window, now + 5 * window)

    def advert(self, advert: Advert, now: float) -> list[Transition]:
        """Another node's advert came, and `peers` knows of it."""
        if advert.role is not Role.MASTER or self._peers.is_held(advert.id, now):
            return []
        link = self.outbound.link
        match self.role:
            case Role.LISTENING:
                if self._peers.is_proven(advert.id, now):
                    self._join(as_member(advert), self._settings.timing.join_timeout, now)
                elif self._listening:
                    self._listen_on(self._listening, now)
            case Role.JOINING if self._takeover:
                is_busy = self._takeover.is_detour or (link is not None and link.phase is Phase.GREETING)
                asked = link.peer if link else None
                if not is_busy and self._takeover.detour(self._peers.claims(now), self.term, asked) is not None:
                    self.outbound.drop()
                    self._takeover.position = max(self._takeover.position, 0)
                    self._try_successor(now)
            case Role.JOINING:
                # A proof is better than the hint that we are following.
                is_hint = link and link.phase is Phase.CONNECTING and not self._peers.is_proven(link.peer.id, now)
                if is_hint and self._peers.is_proven(advert.id, now):
                    self.outbound.drop()
                    self._listening = self._interrupted
                    self._join(as_member(advert), self._settings.timing.join_timeout, now)
            case Role.CLIENT | Role.MASTER:
                pass  # our session says otherwise, and it is the truth; `meet_rivals` finds it among the peers
            case _:
                assert_never(self.role)
        return self._changes()

    def connected(self, session: Session, psk: PskName, now: float) -> None:
        """Our outbound session is open, by this PSK: say why we came."""
        if (link := self.outbound.opened(session, psk, now)) is not None:
            self.outbound.greet(link, self._make_merge() if self.role is Role.MASTER else self._make_join())

    def ended(self, session: Session, code: str, reason: str, now: float) -> list[Transition]:
        """Our outbound session is over, never opened, or is of no more use; `code` is of an ERROR packet, or ours."""
        if (loss := self.outbound.ended(session, code, reason, now)) is not None:
            self._link_failed(*loss, now)
        return self._changes()

    def group_received(self, session: Session, group: Group, now: float) -> list[Transition]:
        """GROUP on our outbound session: we are welcome, or there is news. A lower term than seen is not followed."""
        link = self.outbound.at(session)
        if link is None or self.role is Role.MASTER:
            return []
        if group.term < self.term or group.master != link.peer.id:
            self._out += [notices.Fenced(link.peer, group.term, self.term), Disconnect(session)]
            return self.ended(session, "fenced", "it speaks for an old term, or another master", now)
        self.term = group.term
        self._known.received(group)
        link.peer = next((m for m in group.members if m.id == link.peer.id), link.peer)  # with its latest addresses
        if link.phase is Phase.GREETING:
            self.outbound.welcomed(link, now)
            self._peers.joined(link.peer.id)
            self._takeover = None
            if self.role is Role.CLIENT:
                self._out.append(notices.SessionRenewed(link.peer, link.psk.identity))
            else:
                self._become(Role.CLIENT)
                self._out.append(notices.MasterJoined(link.peer, group.term))
        return self._changes()

    def handed_over(self, session: Session, handover: Handover, now: float) -> list[Transition]:
        """The master tells us who comes after it: perhaps we."""
        master = self.master
        if master is None or self.master_session != session or handover.term < self.term:
            return []
        self.outbound.drop()
        # Its advert says master until it has told otherwise, or gone.
        self._peers.hold_down(master.id, now, self._settings.timing.rival_hold_max)
        if handover.master.id == self._settings.me.id:
            # It is above our term, unless it was meant for another node with our id.
            self._claim(max(handover.term, self.term + 1), notices.Claim.HANDED_OVER, handover.members)
        else:
            self._takeover = Takeover((handover.master, *successors(self._known.latest, handover.master.id)), 0)
            self._try_successor(now)
        return self._changes()

    def step_down(self, heir: Member, now: float) -> list[Transition]:
        """As master, hand the part to a member of ours, and become a client of it."""
        self._out.append(notices.HandedOver(heir))
        self._peers.clear_hold_down(heir.id)
        self._yield(Handover(heir, self.term + 1), now)
        return self._changes()

    def _yield(self, handover: Handover, now: float) -> None:
        self._yields_to = handover
        self.outbound.drop()
        self._takeover = Takeover((handover.master,), 0, hands_over=True)
        self._try_successor(now)

    def term_met(self, term: int) -> None:
        """As master, rise above a term that a peer has seen."""
        self.term = term + 1 if term > self.term else self.term

    # --- two masters --------------------------------------------------------------------------------------------

    def merge_asked(self, session: Session, merge: Merge, now: float) -> list[Transition]:
        """Another master asks which of us shall stay. We alone decide, and tell it."""
        if self.outbound.link and self.outbound.link.peer.id == merge.master.id:
            self.outbound.drop()  # we asked it as well; only one of us may decide
        mine = self._make_merge()
        stays = winner(mine, merge, is_out_of_reach=self._peers.is_out_of_reach(merge.master.id, now))
        term, epoch = above_both(mine, merge)
        self._out.append(Send(session, replace(mine, term=term, epoch=epoch, winner=stays)))
        self._settle(replace(merge, term=term, epoch=epoch, winner=stays), now)
        return self._changes()

    def merge_answered(self, session: Session, merge: Merge, now: float) -> list[Transition]:
        """The master that we asked has decided."""
        link = self.outbound.at(session)
        if link is None or self.role is not Role.MASTER:
            return []
        if merge.master.id != link.peer.id or merge.winner not in (link.peer.id, self._settings.me.id):
            self._link_failed("protocol", "its answer to MERGE makes no sense", now)
        else:
            self.outbound.drop()
            self._settle(merge, now)
        return self._changes()

    def _settle(self, merge: Merge, now: float) -> None:
        """Do what `merge`, the other master's, says: the winner, and the term and the epoch above both."""
        other, me = merge.master, self._settings.me
        self._out.append(notices.Merged(other, other if merge.winner == other.id else me))
        if merge.winner != other.id:
            self.term = max(self.term, merge.term) + 1
            self._transitions.append(MergeWon(merge))
            self._peers.hold_down(other.id, now, self._settings.timing.rival_hold_max)  # its advert says master still
            return
        self.term = max(self.term, merge.term)
        self._yield(Handover(other, self.term), now)

    def meet_rivals(self, members: frozenset[str], now: float) -> None:
        """As master, look for another one, and go to it if it is ours to go. `members` are those that we serve."""
        if self.outbound.link is None and (rival := self._rivals.to_ask(self._peers, members, now)):
            if self._peers.is_proven(rival.id, now):
                self._out.append(notices.TwoMasters(rival))
            self.outbound.open(as_member(rival), self._settings.timing.join_timeout, now)

    # --- time ---------------------------------------------------------------------------------------------------

    def slept(self, seconds: float, now: float) -> list[Transition]:
        """We did not run for so long that, as master, we must have been replaced; and while listening, all is old."""
        if self.role not in (Role.MASTER, Role.LISTENING):
            return []  # the session tells whether it is still there
        self._out.append(notices.Slept(seconds, self.role))
        self.outbound.drop()
        return self.listen(now)

    def tick(self, now: float) -> list[Transition]:
        """Do what the time has come for."""
        if self.outbound.link is not None:
            if (loss := self.outbound.tick(now)) is not None:
                self._link_failed(*loss, now)
        elif self._takeover and self._takeover.retry_at is not None and now >= self._takeover.retry_at:
            self._try_successor(now)
        elif self._listening:
            self._listen_on(self._listening, now)
        return self._changes()

    def _listen_on(self, listening: Listening, now: float) -> None:
        if masters := self._peers.proven_masters(now):
            self._join(as_member(masters[0]), self._settings.timing.join_timeout, now)
            return
        if listening.claim_at is None and now < listening.until:
            return
        hints = self._peers.claims(now)
        if not self._settings.me.eligible or self._peers.was_refused(now):
            listening.until, listening.claim_at = now + self._settings.timing.discovery_window, None
            if hints:
                self._join(as_member(hints[0]), HINTS_FOR, now)
            return
        if listening.claim_at is None:
            listening.claim_at = self._peers.claim_at(self._settings.me, now)
            if hints:
                listening.claim_at += HINTS_FOR  # for all candidates alike, so that no two claim at the same moment
        if now >= listening.claim_at:
            self._claim(self.term + 1, notices.Claim.NO_BETTER)
        elif hints:
            self._join(as_member(hints[0]), (listening.claim_at - now) / BACKED_UP_AFTER, now)

    # --- the moves ----------------------------------------------------------------------------------------------

    def _become(self, role: Role) -> None:
        self._listening = None
        if role is not self.role:
            was, self.role = self.role, role
            self._out.append(notices.RoleChanged(was, role, self.term))
            if was is Role.MASTER:
                self._transitions.append(SteppedDown(self._yields_to))
                self._yields_to = None
            if role in (Role.LISTENING, Role.JOINING):
                self._transitions.append(WithoutMaster())

    def _changes(self) -> list[Transition]:
        """Return what has changed since this was called last."""
        changes, self._transitions = self._transitions, []
        return changes

    def _claim(self, term: int, why: notices.Claim, inherited: tuple[Member, ...] = ()) -> None:
        self.term = max(term, self.term)
        self._takeover = None
        self._become(Role.MASTER)
        self._out.append(notices.Elected(self.term, why))
        self._transitions.append(Leading(inherited))

    def _join(self, peer: Member, timeout: float, now: float) -> None:
        self._interrupted = self._listening
        self._become(Role.JOINING)
        self.outbound.open(peer, timeout, now)

    def _link_failed(self, code: str, reason: str, now: float) -> None:
        if (link := self.outbound.lost()) is None:
            return
        if self.role is Role.CLIENT:
            self._out.append(notices.MasterLost(link.peer, code, reason))
            self._takeover = Takeover(successors(self._known.latest, link.peer.id), -1)
            self._join(link.peer, self._settings.timing.reconnect_timeout, now)
            return
        takeover = self._takeover
        if takeover and takeover.is_detour and code not in REFUSALS:
            self._peers.is_not_master(link.peer.id)
            self._try_successor(now)
            return
        if takeover and takeover.position >= 0 and code == NOT_MASTER:
            if takeover.asks_again(self._settings.timing, now):
                return
            # Alive, and for so long no master: it still has one, whom we cannot reach. The succession is not for us.
            takeover = self._takeover = None
        if self.role is not Role.MASTER or self._peers.is_proven(link.peer.id, now):
            self._out.append(notices.JoinFailed(link.peer, code, reason))
        if code == NOT_MASTER:
            self._peers.is_not_master(link.peer.id)
        if self.role is Role.MASTER:
            self._peers.hold_down(link.peer.id, now, self._settings.timing.rival_hold_max)
            return
        self._peers.hold_down(link.peer.id, now, self._settings.timing.hold_down_max, refused=code in REFUSALS)
        if takeover and takeover.hands_over and link.phase is Phase.CONNECTING:
            self._peers.handover_failed(link.peer.id, now)
        if takeover and code not in REFUSALS:  # whoever refuses us is the master, so nobody else is to take over
            takeover.position += 1
            self._try_successor(now)
            return
        interrupted = self._interrupted
        self._listen(now)
        if interrupted and self._listening:
            interrupted.until = max(now, min(self._listening.until, interrupted.latest))
            self._listening = interrupted
        if self._listening:
            self._listen_on(self._listening, now)

    def _try_successor(self, now: float) -> None:
        takeover = self._takeover
        peer = takeover.next(self._peers.claims(now), self.term, self._settings.timing, now) if takeover else None
        if peer is None:
            self._listen(now)
        elif peer.id == self._settings.me.id:
            self._claim(self.term + 1, notices.Claim.SUCCESSION)
        else:
            self._join(peer, self._settings.timing.successor_timeout, now)
