"""The bounds of the guarantees, in seconds, as they follow from the timings that the operators of a group have set.

The nodes of a group may have different timings: an operator changes them one node after the other. Each session goes by
the longer `dead_after` of its two ends. Then the slowest node sets most bounds. No datagram is lost
(`Bounds.keeps_datagrams`) if `activation_deadline` is longer than a whole group needs to join its next master, and
`retire_after` is longer than a member may go on with a former key.

Three settings count at the master only: `rekey_interval`, `suite` and `preempt`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Self

from pskkey.core.actions import STAGGER
from pskkey.core.settings import Timing
from tests.sim.processor import Costs

CLAIM_STEPS = 6
"""The most claim steps that a candidate waits before it claims: for better candidates, and by its id."""

HINTS = 0.3
"""Seconds for which a candidate tries to join nodes that are masters by a hint only."""

LARGE_PACKETS = 5.0
"""Seconds of the longest hold-down after an attempt to join whose answer did not arrive."""

OUT_OF_REACH = 60.0
"""Seconds for which a master does not hand over to a node to which it could not connect."""

NETWORK = 0.1
"""Seconds that a few packets need in a network without faults."""

SUCCESSION = 2.0
"""Seconds of a succession beside the work that each member causes."""

MEMBER_PACKETS, MEMBER_EVENTS, MEMBER_KIBIBYTES = 12, 8, 2
"""The work that one member may cause at the busiest node of a succession."""

JOINER_HANDSHAKES, JOINER_PACKETS, JOINER_EVENTS = 2, 30, 20
"""The work that one node may cause at the busiest node of a group that forms: it joins, and prepares for a loss."""


@dataclass(frozen=True)
class Bounds:
    """The bounds that follow from the `slowest` and the `fastest` value of each timing."""

    slowest: Timing = field(default_factory=Timing)
    fastest: Timing = field(default_factory=Timing)
    nodes: int = 1
    """The greatest number of nodes. A master of many sends fewer heartbeats."""
    most_addresses: int = 1
    """The most addresses at which a node is tried and that may lead nowhere."""
    has_barriers: bool = False
    """Whether some ways let only small messages pass before the network is mended."""
    preempts: bool = False
    """Whether any node is configured to hand over to a better candidate."""

    @classmethod
    def of(cls, timings: Iterable[Timing], *, preempts: bool = False) -> Self:
        """Return the bounds of a group whose nodes have these `timings`."""
        configured = tuple(timings)
        values = {f.name: [getattr(timing, f.name) for timing in configured] for f in fields(Timing)}
        slowest = Timing(**{name: max(found) for name, found in values.items()})
        fastest = Timing(**{name: min(found) for name, found in values.items()})
        return cls(slowest, fastest, preempts=preempts)

    # --- a quiet network ----------------------------------------------------------------------------------------

    @property
    def converges_within(self) -> float:
        """How long after the last fault a group has one master.

        This is the sum of the patience with a successor, a discovery window, the claims of the candidates, the
        hold-downs of a rival and of a lost master, and a merge. With different timings the faster nodes found a group
        of their own meanwhile, and a slower rival joins it later. A master that preempts hands over afterwards.
        """
        slow = self.slowest
        claims = CLAIM_STEPS * slow.claim_step + HINTS
        seconds = slow.takeover_patience + slow.discovery_window + claims + 2 * slow.rival_hold_max + slow.join_timeout
        if not self.has_equal_timings:
            seconds += slow.join_timeout + slow.dead_after
        if self.preempts:
            seconds += slow.preempt_after + slow.successor_timeout
        if self.has_barriers:
            seconds += LARGE_PACKETS + slow.join_timeout
        return seconds + 3 * self.tries_addresses_for + NETWORK

    @property
    def tries_addresses_for(self) -> float:
        """How much longer it takes to connect to a node of which only the last address answers."""
        return STAGGER * (self.most_addresses - 1)

    @property
    def replaces_within(self) -> float:
        """How long after the power loss of the master of a quiet group all others are members of its successor.

        It holds for equal timings only. Otherwise some nodes give up before the successor has missed the master.
        """
        return self.slowest.comes_within + self.tries_addresses_for + 2 * NETWORK

    @property
    def excludes_within(self) -> float:
        """How long after the power loss of the master of a quiet group no node sends with a key that it knows.

        The successor takes over, waits for the return of the old master, and until the current key is old enough. Then
        a node without an answer may delay the new key.
        """
        slow = self.slowest
        return self.replaces_within + slow.left_after + slow.departure_spacing + slow.activation_deadline + NETWORK

    @property
    def has_equal_timings(self) -> bool:
        """Whether all nodes have the same timings."""
        return self.slowest == self.fastest

    @property
    def twin_delay(self) -> float:
        """How much longer the convergence takes if two nodes have one id.

        A master that merges waits for the node that it refuses, up to the activation deadline.
        """
        return self.slowest.activation_deadline

    @property
    def refused_for(self) -> float:
        """How long a refused node holds the master down and then joins, at most."""
        return self.slowest.hold_down_max + self.slowest.join_timeout

    @property
    def reaches_again_within(self) -> float:
        """How long after the last fault a master may still hand over to a node that was out of its reach."""
        return OUT_OF_REACH + self.slowest.preempt_after + self.converges_within

    @property
    def keys_settle_within(self) -> float:
        """How long after the convergence all nodes have retired the last former key: `retire_after` and a rekey.

        The convergence covers the default activation deadline of that rekey. A longer deadline adds the difference. If
        nodes have left, a rekey for them comes later.
        """
        slow = self.slowest
        more = max(0.0, slow.activation_deadline - Timing().activation_deadline)
        if slow.rekey_on_leave:
            more += slow.departure_spacing + slow.left_after - slow.comes_within
        return slow.retire_after + 2 * slow.rekey_spacing + more

    # --- slow nodes -----------------------------------------------------------------------------------------------

    def succeeds_within(self, nodes: int, costs: Costs) -> float:
        """How long after the end of the master's process all nodes are members of its successor.

        Each member causes packets and events, but no handshake: it joins on a session that is open already.
        """
        member = MEMBER_PACKETS * costs.packet + MEMBER_EVENTS * costs.event + MEMBER_KIBIBYTES * costs.kibibyte
        return SUCCESSION + nodes * member

    def converges_slowly_within(self, nodes: int, costs: Costs) -> float:
        """How long after the last fault a group of slow nodes has one master, though all join with a handshake.

        Each joiner gets one whole GROUP, which has an entry for each node.
        """
        group = nodes * MEMBER_KIBIBYTES * costs.kibibyte
        joiner = JOINER_HANDSHAKES * costs.handshake + JOINER_PACKETS * costs.packet + JOINER_EVENTS * costs.event
        return self.converges_within + nodes * (joiner + group)

    # --- datagrams ----------------------------------------------------------------------------------------------

    @property
    def keeps_datagrams(self) -> bool:
        """Whether no key is used too early or dropped too soon: the condition above."""
        slow, fast = self.slowest, self.fastest
        in_use = slow.activation_deadline + 2 * slow.rekey_spacing
        return fast.activation_deadline >= slow.takeover_patience and fast.retire_after >= in_use

    @property
    def cut_is_noticed_within(self) -> float:
        """How long after a cut the nodes on both sides have noticed it, even if it is mended meanwhile."""
        return self.slowest.dead_after + self.slowest.beat_interval(self.nodes)

    @property
    def parted_after(self) -> float:
        """How long two nodes without a master, or with different masters, still count as members of one group."""
        return self.fastest.dead_after

    @property
    def reads_within(self) -> float:
        """How long after they have become members of one master two undisturbed nodes read each other.

        A node may keep a former key in use until another key replaces it or the node gives it up. Meanwhile the node
        cannot hold the other key of that epoch.
        """
        slow = self.slowest
        heard = slow.dead_after + 2 * slow.beat_interval(self.nodes)
        return heard + slow.activation_deadline + 2 * slow.rekey_spacing
