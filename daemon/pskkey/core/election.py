"""The election: the role of a node in its group, and each change of that role (`role_table` is the summary).

Theory of operation
===================

Availability comes first. Every node has the whole key state, so every eligible node can be the master. When the network
splits, each partition can have a master. When it heals, the masters find each other, and all but one yield.

Roles:

LISTENING
    The node looks for a master. It joins when an advert proves that its sender is master now (`freshness`). If
    `discovery_window` ends without a proof, the node sets the time of its claim: a candidate that knows k better ones
    waits k x `claim_step`, with exceptions (`Peers.claim_at`). Until then it tries the nodes that hints call master;
    they delay the claim by HINTS_FOR. This wait is bounded. It only saves merges: no rule requires that candidates know
    each other. A node that is not eligible, or that a proven master has refused, does not claim.
JOINING
    The node opens a session with one peer and sends JOIN; GROUP is the welcome. After a failure the peer is in
    hold-down, which doubles, and the search goes on. No search ends without a master.
CLIENT
    The node is a member. The session proves to each end that the other lives: heartbeats go both ways, and `dead_after`
    seconds of silence end it. When the PSK changes, a second session to the master replaces the first (`renewal`).
MASTER
    The node serves the group. Its term is above the term of each master that it followed, and is not below the term of
    any JOIN or MERGE that it accepted.

A member that loses its master does not listen, because GROUP has announced the succession. It tries the lost master
again for `reconnect_timeout`: a broken connection does not prove a death. Then it walks the succession (`takeover`). At
its own place it becomes the master; at any other place it joins that successor. A successor may notice the loss up to a
heartbeat later. It answers `not_master` until then, and is asked again until `takeover_patience` is over. A successor
that is not master after that still reaches the lost master, so the walk ends and this node listens. A member that an
advert calls master of a newer term is asked out of turn, once. An advert never ends the walk.

Why it converges: in a connected network without faults every master's advert reaches every other master. Of two masters
one yields, by an order (`rank.merge_order`) on facts that do not change in such a network. So one master remains. Nodes
without a master find it by its advert. If there is none, an eligible node claims, because only the proof of a master
stops its wait. Terms only rise: a node follows no GROUP of a lower term than it has seen, and a master that meets a
higher term (in JOIN or MERGE) goes above it. A master that did not run for `dead_after` is replaced, so it listens.
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
REFUSALS = frozenset({"busy", "duplicate_id", "group_full", "wrong_group"})  # the peer lives, but refuses us


class Election:
    """The state machine above. Its methods append actions to `out`, and return transitions."""

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
        # At most one outbound session (two during a renewal), and at most one of `_takeover` and `_listening`.
        self.outbound = Outbound(settings, out)
        self._takeover: Takeover | None = None
        self._listening: Listening | None = None
        self._interrupted: Listening | None = None
        self.role = Role.LISTENING
        self.term = 0
        self._yields_to: Handover | None = None
        """The HANDOVER for the members, while this master steps down for another node."""
        self._transitions: list[Transition] = []

    # --- state for the node -------------------------------------------------------------------------------------

    @property
    def master(self) -> Member | None:
        """Return our master, which may be this node; None while there is none."""
        if self.role is Role.MASTER:
            return self._settings.me
        return link.peer if (link := self.master_link) else None

    @property
    def master_link(self) -> Link | None:
        """Return the link to our master, if this node is a member. A renewal replaces it."""
        return self.outbound.link if self.role is Role.CLIENT else None

    @property
    def master_session(self) -> Session | None:
        """Return the session of `master_link`."""
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

    # --- events -------------------------------------------------------------------------------------------------

    def listen(self, now: float) -> list[Transition]:
        """Start a new search for a master."""
        self._listen(now)
        return self._changes()

    def _listen(self, now: float) -> None:
        self._takeover = None
        self._become(Role.LISTENING)
        window = self._settings.timing.discovery_window
        self._listening = Listening(now + window, now + 5 * window)

    def advert(self, advert: Advert, now: float) -> list[Transition]:
        """Take the advert of another node. The caller has given it to `peers` already."""
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
                # A proof takes precedence over the hint that this attempt follows.
                is_hint = link and link.phase is Phase.CONNECTING and not self._peers.is_proven(link.peer.id, now)
                if is_hint and self._peers.is_proven(advert.id, now):
                    self.outbound.drop()
                    self._listening = self._interrupted
                    self._join(as_member(advert), self._settings.timing.join_timeout, now)
            case Role.CLIENT | Role.MASTER:
                pass  # a session is better evidence than an advert; `meet_rivals` asks other masters
            case _:
                assert_never(self.role)
        return self._changes()

    def connected(self, session: Session, psk: PskName, now: float) -> None:
        """Send the first message on an outbound session that opened with `psk`: MERGE as master, else JOIN."""
        if (link := self.outbound.opened(session, psk, now)) is not None:
            self.outbound.greet(link, self._make_merge() if self.role is Role.MASTER else self._make_join())

    def ended(self, session: Session, code: str, reason: str, now: float) -> list[Transition]:
        """Take the end of an outbound session, or the failure to open it. `code` is of an ERROR packet, or ours."""
        if (loss := self.outbound.ended(session, code, reason, now)) is not None:
            self._link_failed(*loss, now)
        return self._changes()

    def group_received(self, session: Session, group: Group, now: float) -> list[Transition]:
        """Take GROUP; the first is the welcome. A term below ours, or another master in it, ends the session."""
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
        """Take HANDOVER of our master: become the master if it names this node, else join the successor."""
        master = self.master
        if master is None or self.master_session != session or handover.term < self.term:
            return []
        self.outbound.drop()
        # Its last advert still claims mastership.
        self._peers.hold_down(master.id, now, self._settings.timing.rival_hold_max)
        if handover.master.id == self._settings.me.id:
            # The term is above ours, unless HANDOVER means another node with our id.
            self._claim(max(handover.term, self.term + 1), notices.Claim.HANDED_OVER, handover.members)
        else:
            latest = self._known.latest
            # A node that was not in our group has won a merge.
            was_master = latest is None or all(m.id != handover.master.id for m in latest.members)
            order = (handover.master, *successors(latest, handover.master.id))
            self._takeover = Takeover(order, 0, was_master=was_master)
            self._try_successor(now)
        return self._changes()

    def step_down(self, successor: Member, now: float) -> list[Transition]:
        """As master, hand over to the member `successor`, the successor, and join it."""
        self._out.append(notices.HandedOver(successor))
        self._peers.clear_hold_down(successor.id)
        self._yield(Handover(successor, self.term + 1), now, was_master=False)
        return self._changes()

    def _yield(self, handover: Handover, now: float, *, was_master: bool) -> None:
        self._yields_to = handover
        self.outbound.drop()
        self._takeover = Takeover((handover.master,), 0, hands_over=True, was_master=was_master)
        self._try_successor(now)

    def term_met(self, term: int) -> None:
        """As master, go above the term that a joiner has seen, if ours is lower."""
        self.term = term + 1 if term > self.term else self.term

    # --- two masters --------------------------------------------------------------------------------------------

    def merge_asked(self, session: Session, merge: Merge, now: float) -> list[Transition]:
        """Answer the MERGE of another master: decide which of the two stays, and act on it."""
        if self.outbound.link and self.outbound.link.peer.id == merge.master.id:
            self.outbound.drop()  # this node has asked as well, but only one may decide
        mine = self._make_merge()
        stays = winner(mine, merge, is_out_of_reach=self._peers.is_out_of_reach(merge.master.id, now))
        term, epoch = above_both(mine, merge)
        self._out.append(Send(session, replace(mine, term=term, epoch=epoch, winner=stays)))
        self._settle(replace(merge, term=term, epoch=epoch, winner=stays), now)
        return self._changes()

    def merge_answered(self, session: Session, merge: Merge, now: float) -> list[Transition]:
        """Act on the decision of the master that this one asked."""
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
        """Act on `merge` of the other master, with the winner and the highest term and epoch of both."""
        other, me = merge.master, self._settings.me
        self._out.append(notices.Merged(other, other if merge.winner == other.id else me))
        if merge.winner != other.id:
            self.term = max(self.term, merge.term) + 1
            self._transitions.append(MergeWon(other.id, merge.epoch))
            self._peers.hold_down(other.id, now, self._settings.timing.rival_hold_max)  # its last advert is a master's
            return
        self.term = max(self.term, merge.term)
        self._yield(Handover(other, self.term), now, was_master=True)

    def meet_rivals(self, members: frozenset[str], now: float) -> None:
        """As master, ask another master which of the two stays. `members` are the ids of our members."""
        if self.outbound.link is None and (rival := self._rivals.to_ask(self._peers, members, now)):
            if self._peers.is_proven(rival.id, now):
                self._out.append(notices.TwoMasters(rival))
            self.outbound.open(as_member(rival), self._settings.timing.join_timeout, now)

    # --- time ---------------------------------------------------------------------------------------------------

    def slept(self, seconds: float, now: float) -> list[Transition]:
        """Listen anew after `seconds` without running: a master is replaced by then, and a wait is outdated."""
        if self.role not in (Role.MASTER, Role.LISTENING):
            return []  # the session shows whether its peer is still there
        self._out.append(notices.Slept(seconds, self.role))
        self.outbound.drop()
        return self.listen(now)

    def tick(self, now: float) -> list[Transition]:
        """Do what is due at `now`."""
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
                listening.claim_at += HINTS_FOR  # the same for all candidates: their claims stay apart
        if now >= listening.claim_at:
            self._claim(self.term + 1, notices.Claim.NO_BETTER)
        elif hints:
            self._join(as_member(hints[0]), (listening.claim_at - now) / BACKED_UP_AFTER, now)

    # --- changes of the role ------------------------------------------------------------------------------------

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
        """Return the transitions since the last call."""
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
            # The successor still has the master that we cannot reach, so there is nothing to take over.
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
        if takeover and code not in REFUSALS:  # a node that refuses us is taken for the master
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
