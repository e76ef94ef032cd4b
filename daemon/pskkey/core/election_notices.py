"""What the operator is told of the election: of roles, of masters that were joined, lost or met, of claims."""

from pskkey.core.actions import Action, Notice, NoticeKind
from pskkey.model import Advert, Member, Merge, Role


class ElectionNotices:
    """Says what the election does, in sentences. Methods append to `out`."""

    def __init__(self, out: list[Action]) -> None:
        self._out = out

    def role_changed(self, was: Role, role: Role, term: int) -> None:
        """We are something else now."""
        self._out.append(Notice(NoticeKind.ROLE_CHANGED, f"{was} -> {role}, term {term}", {"role": role}))

    def elected(self, term: int, why: str) -> None:
        """We are the master."""
        self._out.append(Notice(NoticeKind.ELECTED, f"we are master of term {term}: {why}"))

    def joined(self, master: Member, term: int) -> None:
        """We have become a member."""
        self._about(NoticeKind.MASTER_JOINED, f"joined master {master.name} in term {term}", master)

    def join_failed(self, peer: Member, code: str, reason: str) -> None:
        """Somebody could not be joined, or, as a master, be settled with."""
        self._about(NoticeKind.JOIN_FAILED, f"could not join {peer.name}: {reason}", peer, code=code)

    def lost(self, master: Member, code: str, reason: str) -> None:
        """Our master is gone."""
        self._about(NoticeKind.MASTER_LOST, f"lost master {master.name}: {reason}", master, code=code)

    def fenced(self, peer: Member, term: int, seen: int) -> str:
        """Somebody claims to be our master whose time is over; return what was told."""
        text = f"{peer.name} speaks for term {term}, but term {seen} has been seen; not followed"
        self._about(NoticeKind.FENCED, text, peer, term=term)
        return text

    def handing_over(self, heir: Member) -> None:
        """We give the master's part away."""
        self._about(NoticeKind.HANDED_OVER, f"handing over to {heir.name}", heir)

    def two_masters(self, rival: Advert) -> None:
        """There is another master, and it is for us to go there."""
        text = f"{rival.name} is master too, of term {rival.term}: asking it which of us stays"
        self._about(NoticeKind.TWO_MASTERS, text, rival)

    def merged(self, merge: Merge) -> None:
        """A merge is decided: `merge` is the other master's, and names the winner."""
        other, winner = merge.master, merge.winner or ""
        stays = "we stay" if winner != other.id else f"{other.name} is"
        text = f"merged with the group of {other.name}: {stays} master"
        self._about(NoticeKind.MERGED, text, other, winner=winner)

    def slept(self, seconds: float, role: Role) -> None:
        """We did not run for a while."""
        text = f"asleep for {seconds:.1f} s as {role}: listening first, for there may be another master by now"
        self._out.append(Notice(NoticeKind.SLEPT, text))

    def _about(self, kind: NoticeKind, text: str, peer: Member | Advert, **more: str | int) -> None:
        self._out.append(Notice(kind, text, {"peer": peer.id, **more}))
