"""Why a session manager that has sent does not send now."""

from tests.sim.host import Host
from tests.sim.managers import Managers, SessionManager

NOBODY = 0
"""Stands in the saved state for a memory that nobody will come back with."""

UNEXPLAINED = "unexplained"
"""Of a sender that fell mute though its daemon lets it send: a fault."""

BY_NONSENSE = "under a master that has given it no key to send with"
"""A member goes on for a while with the key that it came with, and then gives in (seed 6770 of 23 November). Every
master of ours has a key, so this is a fault where no peer talks nonsense."""


def why_mute(manager: SessionManager, managers: Managers) -> str:
    """Return the reason, as words that follow "a sender fell mute"."""
    host = manager.host
    if manager.context != host.context:
        return "whose daemon had forgotten everything"
    if not manager.counters:
        return "without a name for its memory"
    if sum(other.will_send for other in managers.on[host]) > 1:
        return "beside another process that asks to send"
    if manager.lag:
        return "long after it was told so"
    return _why_not_granted(host)


def _why_not_granted(host: Host) -> str:
    """Return why the present key is not to be sent with by a node that has a sender and remembers everything."""
    if (node := host.node) is None or (group := node.group()) is None:
        return "while its node has no group"
    current = node.view().current
    if node.key_state().sender_id is None:
        leased = next((m.sender_id for m in group.members if m.id == host.member.id), None)
        return "while all sender ids are in use" if leased is None else "under a key that its lease is blocked in"
    if current is None:
        return BY_NONSENSE
    if not node.view().sender_is_blocked:
        return UNEXPLAINED
    dropped = (current.key.fingerprint, NOBODY) in node.saved_state().sent_with
    return "under a key that it has dropped" if dropped else "under a key that a process before it has sent with"
