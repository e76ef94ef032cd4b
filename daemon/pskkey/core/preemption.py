"""The handover of a master to a better candidate, which the operator permits (`preempt`), or which is necessary."""

from pskkey.core.members import Members
from pskkey.core.peers import Peers
from pskkey.core.rank import candidate_order
from pskkey.core.settings import Settings
from pskkey.model import Member


def find_better_master(settings: Settings, members: Members, peers: Peers, now: float) -> Member | None:
    """Return the best member to hand over to at `now` (seconds), None if there is none.

    A master hands over if the operator permits preemption, or if it is not eligible itself. The member is a better
    candidate than this master, and is not out of reach.
    """
    me = settings.me
    if me.eligible and not settings.preempt:
        return None
    settled = [member for member in members.settled(now) if not peers.is_out_of_reach(member.id, now)]
    best = min(settled, key=candidate_order, default=me)
    return best if candidate_order(best) < candidate_order(me) else None
