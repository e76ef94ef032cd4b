"""The sessions between two masters: this master asks a rival, answers a rival, and acts on the decision (`merge`)."""

from collections.abc import Callable
from dataclasses import replace

from pskkey.core import notices
from pskkey.core.actions import Action, Send
from pskkey.core.attempts import Outbound, as_member
from pskkey.core.events import Session
from pskkey.core.links import Link
from pskkey.core.loss_codes import CANNOT_JOIN
from pskkey.core.merge import Rivals, choose_winner
from pskkey.core.peers import Peers
from pskkey.core.settings import Settings
from pskkey.core.transitions import MergeWon
from pskkey.model import ErrorMessage, Join, Member, Merge


class Merger:
    """The merges of this master. Methods append actions to `out`. `make_merge` returns our MERGE as it is now."""

    def __init__(
        self,
        settings: Settings,
        peers: Peers,
        outbound: Outbound,
        out: list[Action],
        make_merge: Callable[[], Merge],
    ) -> None:
        self._settings, self._peers, self._outbound, self._out = settings, peers, outbound, out
        self._make_merge = make_merge
        self._rivals = Rivals(settings)

    def ask_rival(self, members: frozenset[str], now: float) -> None:
        """Ask a rival which of the two masters stays. `members` are the ids of our members."""
        if self._outbound.link is None and (rival := self._rivals.choose_rival(self._peers, members, now)):
            if self._peers.is_proven(rival.id, now) and self._peers.failure_of(rival.id) is None:
                self._out.append(notices.TwoMasters(rival))
            self._outbound.open(as_member(rival), self._settings.timing.join_timeout, now)

    def answer(self, session: Session, merge: Merge, now: float) -> list[MergeWon]:
        """Answer the MERGE of another master: decide which of the two masters stays, and act on it."""
        other, link, mine = merge.master, self._outbound.link, self._make_merge()
        stays = choose_winner(mine, merge, is_out_of_reach=self._peers.is_out_of_reach(other.id, now))
        asks = link is not None and link.peer.id == other.id
        is_joining = asks and link is not None and link.yields and stays == other.id
        if asks and not is_joining:
            self._outbound.drop()  # this node has sent MERGE too, but only one of the two masters may decide
        if stays == other.id and self._peers.is_in_lasting_hold_down(other.id, now):
            text = f"{mine.master.name} could not join {other.name} before, and tries it again later"
            self._out.append(Send(session, ErrorMessage(CANNOT_JOIN, text)))
            return []
        self._out.append(Send(session, replace(mine, winner=stays)))
        if is_joining:
            return []
        if stays != other.id:
            return self._win(other, now)
        self._outbound.drop()
        self._outbound.open(other, self._settings.timing.join_timeout, now).yields = True
        return []

    def is_wrong_answer(self, link: Link, merge: Merge) -> bool:
        """Return whether the answer to our MERGE on `link` names another master, or neither of the two as winner."""
        return merge.master.id != link.peer.id or merge.winner not in (link.peer.id, self._settings.me.id)

    def take_answer(self, link: Link, merge: Merge, join: Join, now: float) -> list[MergeWon]:
        """Act on the decision of the master that this master has asked. If it has lost, send `join`."""
        if merge.winner == link.peer.id:
            self._outbound.yield_on(link, join, now)
            return []
        self._outbound.drop()
        return self._win(merge.master, now)

    def _win(self, other: Member, now: float) -> list[MergeWon]:
        self._peers.hold_down(other.id, now, self._settings.timing.rival_hold_max)  # its last advert is outdated
        return [MergeWon(other.id)]
