"""What must hold between the devices, in every state; what must hold within one is in `device`.

`sender ids`: a key and a sender id are given to one sequence context only, ever, or a sequence number could come twice.

`members`: a member is never in a later term than the master that serves it.

`readable`: what the master or a member sends with a key of the master, all those can read that have acknowledged that
key, or one after it. (That all have acknowledged a key before it is sent with, is `activation` in `device`.) Of an
epoch a session manager has one key, so a key of a former group stands for the master's of the same epoch.

That there is one master in a term is no guarantee: two successors on two sides of a split take the same term, each by
the same rule, and know nothing of each other. (See `epochs` in `device` for what takes its place.)
"""

from collections.abc import Sequence

from pskkey.model import Role
from tests.explore.device import Broken, Facts, member
from tests.explore.state import DEVICES, State

type Grant = tuple[str, int, int]


def check_grant(grants: frozenset[Grant], grant: Grant) -> None:
    """Of all that was granted ever, nothing is granted to another. Raises Broken."""
    key, sender_id, context = grant
    for former_key, former_id, former in grants:
        if (former_key, former_id) == (key, sender_id) and former != context:
            raise Broken(
                "sender ids",
                f"sender id {sender_id} under key {key} is granted to sequence context {context}, and was to {former}",
            )


def check_group(state: State, facts: Sequence[Facts]) -> None:
    """Check every master and those that it serves. Raises Broken."""
    for number, leader in enumerate(facts):
        if leader.role is not Role.MASTER:
            continue
        served = members_of(state, facts, number)
        for one in served:
            if facts[one].term > leader.term:
                raise Broken("members", f"n{one + 1} is in term {facts[one].term}, its master in {leader.term}")
        _check_readable(facts, number, served)


def members_of(state: State, facts: Sequence[Facts], master: int) -> list[int]:
    """Return the devices that have joined a master, as both of them know."""
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
    places = {epoch: place for place, (epoch, _) in enumerate(leader.ring)}
    acked = {node: places.get(epoch, -1) for node, _, epoch in leader.group if epoch is not None}
    for sender in (master, *served):
        sends = facts[sender].sends
        is_ours = sends is not None and sends[0] in leader.led_with and member(sender + 1).id in acked
        if sends is not None and is_ours and sends[0] not in {key for _, key in leader.ring}:
            raise Broken("readable", f"n{sender + 1} still sends with {sends[0]}, which its master has dropped")
        for place, (epoch, key) in enumerate(leader.ring):
            if sends is None or sends[0] != key or key in leader.forced:
                continue
            for reader in (master, *served):
                knows = facts[reader].knows
                if acked.get(member(reader + 1).id, -1) >= place and epoch not in {e for e, _ in knows}:
                    raise Broken(
                        "readable", f"n{sender + 1} sends with epoch {epoch}, {key}; n{reader + 1} has dropped it"
                    )
