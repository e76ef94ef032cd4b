"""The conditions that the core finds: why this node is in no group, or why its group is not whole (`model.conditions`).

They follow from the present state of the parts, so each ends when its reason is gone:

1. A master that this node could not join, or could not merge with: until an attempt succeeds, or until the claim of
   that master expires. A member has a master, so only its master has this condition.
2. A node that joined this master and never confirmed GROUP (`confirmations`): until it confirms, or gives up.
3. Times that differ at the two ends of a session: until they are equal.
4. Another node with our id: until it is not heard for DUPLICATE_FOR.
5. A node that has no protocol level in common with this node, or with the group of this master: until its next advert,
   or until its advert expires. A member has a master, so only its master has this condition.
6. A node that may not be master and knows no node that may: until it knows one.
7. Keys that have expired (`expiry`): until the node sends again with the key of a group.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from pskkey.core.attempts import as_member
from pskkey.core.election import Election
from pskkey.core.expiry import KeyExpiry
from pskkey.core.levels import explain
from pskkey.core.loss_codes import CANNOT_JOIN, NO_COMMON_LEVEL, NO_GROUP, NO_HANDSHAKE
from pskkey.core.members import Members
from pskkey.core.message_handler import MessageHandler
from pskkey.core.peers import Failure, Peers
from pskkey.core.settings import Settings
from pskkey.model import Advert, Condition, ConditionKind, Member, Role, Times

MOST_OF_A_KIND: Final = 8
"""Conditions of one kind. A holder of the PSK can invent any number of nodes."""

_LARGE_PACKETS: Final = (
    "let large packets through: give the interfaces of both nodes the MTU of the path, or let ICMP through firewalls"
)
_COMMON_LEVEL: Final = "install versions of pskkey that have a level in common: neighbouring ones always have"
_REMEDIES: Final = {
    NO_COMMON_LEVEL: _COMMON_LEVEL,
    NO_GROUP: _LARGE_PACKETS,
    CANNOT_JOIN: _LARGE_PACKETS,
    NO_HANDSHAKE: f"{_LARGE_PACKETS}; or look at the load of that node",
    "timeout": "let TCP port {port} through the firewalls of both nodes and of the network between them",
    "refused": "start pskkeyd there, or let TCP port {port} through the firewall that refuses it",
    "unreachable": "correct the route to this address, or let TCP port {port} through the firewall that refuses it",
    "handshake": "compare the PSK files of both nodes with `pskkeyctl psk list`",
    "wrong_node": "set [network] interfaces or addresses there, so that it announces an address of its own",
    "no_address": "give that node an address that others can connect to",
    "group_full": "raise [limits] members on all nodes, or remove a node",
    "busy": "look for a host that opens many connections to that node, or raise its [limits]",
    "duplicate_id": "set another [node] id on one of the two nodes",
    "wrong_group": "set the same [group] name on both nodes",
}
"""The next step by the code of a failure."""

_OTHER_REMEDY: Final = "see the journal of both nodes: journalctl -u pskkeyd"


def find_conditions(
    settings: Settings,
    election: Election,
    peers: Peers,
    members: Members,
    handler: MessageHandler,
    expiry: KeyExpiry,
    now: float,
) -> tuple[Condition, ...]:
    """Return the conditions at `now`."""
    kinds = (
        _unreachable_masters(election, peers, members, now),
        _unconfirmed(members, now) if election.role is Role.MASTER else iter(()),
        _different_times(settings, election, members),
        _duplicate(handler, now),
        _strangers(election, peers, members, now),
        _nobody_eligible(settings, election, peers, now),
        expiry.conditions(),
    )
    return tuple(condition for kind in kinds for condition in islice(kind, MOST_OF_A_KIND))


def _unreachable_masters(election: Election, peers: Peers, members: Members, now: float) -> Iterator[Condition]:
    if election.role is Role.CLIENT:
        return
    is_master = election.role is Role.MASTER
    for advert, failure in peers.failures(now):
        # Without a new proof it may be a dead master, or an old advert that a stranger sends again.
        if advert.id not in members.ids and (not is_master or peers.has_proved_lately(advert.id, failure, now)):
            yield _describe_failure(advert, failure, is_rival=is_master)


def _describe_failure(advert: Advert, failure: Failure, *, is_rival: bool) -> Condition:
    """Return the condition of a failed attempt with the master that sends `advert`. `is_rival`: we are master too."""
    begin = (
        f"{advert.name} is master too, and the two groups cannot merge" if is_rival else f"cannot join {advert.name}"
    )
    address = failure.address or next(iter(advert.addresses), None)
    return Condition(
        ConditionKind.MASTER_UNREACHABLE,
        f"{begin}: {failure.reason}",
        _REMEDIES.get(failure.code, _OTHER_REMEDY).format(port=advert.port),
        advert.id,
        address,
    )


def _unconfirmed(members: Members, now: float) -> Iterator[Condition]:
    for member, address in members.confirmations.missing(now):
        text = f"{member.name} at {address} sent JOIN, but did not confirm the answer: large packets may not reach it"
        yield Condition(ConditionKind.MEMBER_UNREACHABLE, text, _LARGE_PACKETS, member.id, address)


def _different_times(settings: Settings, election: Election, members: Members) -> Iterator[Condition]:
    ours = settings.timing.times
    link = election.master_link
    if link is not None and link.peer_times not in (None, ours):
        yield _describe_times(link.peer, link.peer_times or ours, ours)
    if election.role is Role.MASTER:
        for joined in members.with_other_times(ours):
            yield _describe_times(joined.member, joined.join.times, ours)


def _describe_times(peer: Member, times: Times, ours: Times) -> Condition:
    text = (
        f"{peer.name} has heartbeat_interval = {times.heartbeat_interval:g} and dead_after = {times.dead_after:g}, "
        f"this node has {ours.heartbeat_interval:g} and {ours.dead_after:g}: the session goes by the longer dead_after"
    )
    return Condition(ConditionKind.TIMES_DIFFER, text, "set the same [election] times on all nodes", peer.id)


def _duplicate(handler: MessageHandler, now: float) -> Iterator[Condition]:
    if (other := handler.duplicates.find(now)) is not None:
        text = f"another node has our node id: {other}"
        yield Condition(ConditionKind.ID_ELSEWHERE, text, "set another [node] id on one of them")


def _strangers(election: Election, peers: Peers, members: Members, now: float) -> Iterator[Condition]:
    if election.role is Role.CLIENT:
        return
    me = members.levels.as_group
    for advert in peers.strangers(me.speaks, now):
        # A member of another group is not our concern, and an advert without a proof may be that of a dead master.
        is_present = advert.role is Role.LISTENING or peers.is_proven(advert.id, now)
        if is_present and advert.id not in members.ids:
            address = next(iter(advert.addresses), None)
            text = explain(me, as_member(advert))
            yield Condition(ConditionKind.NO_COMMON_LEVEL, text, _COMMON_LEVEL, advert.id, address)


def _nobody_eligible(settings: Settings, election: Election, peers: Peers, now: float) -> Iterator[Condition]:
    is_outside = election.role in (Role.LISTENING, Role.JOINING)
    if is_outside and not settings.me.eligible and not peers.knows_eligible(now):
        text = "there is no master, and no node is known that may become master"
        yield Condition(ConditionKind.NOBODY_ELIGIBLE, text, "set [node] eligible = true on a node of the group")
