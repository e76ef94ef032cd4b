"""The guarantees between the devices, in every state. Those within one device are in `device`.

`sender ids`: only one sequence context ever sends with a key and a sender id. Otherwise a sequence number could repeat.

`members`: a member is never in a later term than the master that serves it.

`readable`: if the master or a member sends with a key of the master, all members that have acknowledged this key or a
later one can read it. (`activation` in `device` checks that all have acknowledged a key before it is used.) A session
manager has one key of an epoch, so a key of a former group counts as the master's key of that epoch.

One master in a term is not a guarantee: two successors in two partitions take the same term by the same rule, and know
nothing of each other. `epochs` in `device` takes its place.
"""

from collections.abc import Sequence

from pskkey.model import Role
from tests.explore.device import Broken, Facts, member
from tests.explore.state import DEVICES, State

type Use = tuple[str, int, int]


def check_use(uses: frozenset[Use], use: Use) -> None:
    """Check that no other sequence context has ever sent with this key and sender id. Raises Broken."""
    key, sender_id, context = use
    for former_key, former_id, former in uses:
        if (former_key, former_id) == (key, sender_id) and former != context:
            raise Broken(
                "sender ids",
                f"sequence contexts {former} and {context} both send with sender id {sender_id} under key {key}",
            )


def check_group(state: State, facts: Sequence[Facts]) -> None:
    """Check every master and the members that it serves. Raises Broken."""
    for number, leader in enumerate(facts):
        if leader.role is not Role.MASTER:
            continue
        served = members_of(state, facts, number)
        for one in served:
            if facts[one].term > leader.term:
                raise Broken("members", f"n{one + 1} is in term {facts[one].term}, its master in {leader.term}")
        _check_readable(facts, number, served)


def members_of(state: State, facts: Sequence[Facts], master: int) -> list[int]:
    """Return the devices that are members of a master in the view of both."""
    listed = {node: number for number in range(DEVICES) for node in [member(number + 1).id] if number != master}
    joined = {listed[node] for node, _, _ in facts[master].group if node in listed}
    ends = {
        stream.client: stream.number
        for stream in state.streams
        if stream.server == master and stream.client_is_open and stream.server_is_open and not stream.is_broken
    }
    return [n for n in sorted(joined) if facts[n].role is Role.CLIENT and facts[n].session == ends.get(n, -1)]


def _check_readable(facts: Sequence[Facts], master: int, served: list[int]) -> None:
    leader = facts[master]
    places = {epoch: place for place, (epoch, _) in enumerate(leader.held_keys)}
    acked = {node: places.get(epoch, -1) for node, _, epoch in leader.group if epoch is not None}
    for sender in (master, *served):
        sends = facts[sender].sends
        is_ours = sends is not None and sends[0] in leader.used_as_master and member(sender + 1).id in acked
        if sends is not None and is_ours and sends[0] not in {key for _, key in leader.held_keys}:
            raise Broken("readable", f"n{sender + 1} still sends with {sends[0]}, which its master has dropped")
        for place, (epoch, key) in enumerate(leader.held_keys):
            if sends is None or sends[0] != key or key in leader.forced:
                continue
            for reader in (master, *served):
                knows = facts[reader].knows
                if acked.get(member(reader + 1).id, -1) >= place and epoch not in {e for e, _ in knows}:
                    raise Broken(
                        "readable", f"n{sender + 1} sends with epoch {epoch}, {key}; n{reader + 1} has dropped it"
                    )
