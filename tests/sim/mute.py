"""The reasons why a session manager that has sent does not send any more."""

from pskkey.model import ConditionKind
from tests.sim.host import Host
from tests.sim.managers import Managers, SessionManager

NO_CONTEXT = 0
"""In the saved state: a sequence context that no session manager has."""

UNEXPLAINED = "unexplained"
"""A sender fell mute though its daemon lets it send. This is a fault."""

BY_NONSENSE = "under a master that has given it no key to send with"
"""A member goes on for a while with its former key, and then gives it up (seed 6770 of 23 November).

Every master of ours has a key, so this is a fault unless a peer sends nonsense.
"""


def mute_reason(manager: SessionManager, managers: Managers) -> str:
    """Return the reason, as words that continue "a sender fell mute"."""
    host = manager.host
    if manager.fresh_starts != host.fresh_starts:
        return "after its daemon had started without persisted state"
    if not manager.sequence_context:
        return "without a sequence context"
    if sum(other.will_send for other in managers.on[host]) > 1:
        return "beside another process that asks to send"
    if manager.lag:
        return "because it installs keys slowly"
    return _why_not_allowed(host)


def _why_not_allowed(host: Host) -> str:
    """Return why a node with one sender and its persisted state must not send with the current key."""
    if (node := host.node) is None or (group := node.group()) is None:
        return "while its node has no group"
    current = node.view().current
    if any(condition.kind is ConditionKind.KEY_EXPIRED for condition in node.view().conditions):
        return "because its key has expired"
    if node.key_state().sender_id is None:
        leased = next((m.sender_id for m in group.members if m.id == host.member.id), None)
        return "while all sender ids are in use" if leased is None else "under a key for which its lease is blocked"
    if current is None:
        return BY_NONSENSE
    if not node.view().sender_is_blocked:
        return UNEXPLAINED
    dropped = (current.key.fingerprint, NO_CONTEXT) in node.saved_state().sent_with
    return "under a key that it has dropped" if dropped else "under a key that a former process has sent with"
