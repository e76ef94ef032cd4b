"""The bounds of the guarantees, in seconds, as they follow from the timings that the operators of a group have set.

The nodes of a group need not agree about their timings: an operator changes them one node after the other. Then the
slowest node sets most bounds, and the guarantees hold under two conditions:

1. Each node's `dead_after` is at least twice the `heartbeat_interval` of every other node, as the configuration demands
   it of one node. Otherwise a node gives up a master that lives, again and again. So an operator raises `dead_after`
   everywhere first, and lowers it last.
2. That no datagram is lost (`Bounds.keeps_datagrams`) needs an `activation_deadline` that is longer than the way of a
   whole group to its next master, and a `retire_after` that is longer than a member may go on with a former key.

The other settings of the master alone count: `rekey_interval`, `suite` and `preempt`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Self

from pskkey.core.settings import Timing

CLAIM_STEPS = 6
"""Steps that a candidate waits at most for better ones and by its id, before it claims."""

HINTS = 0.3
"""Seconds for which it tries to join nodes that only a hint calls master."""

NETWORK = 0.1
"""Seconds that a few packets may be on their way in a network without faults."""


@dataclass(frozen=True)
class Bounds:
    """What the `slowest` and the `fastest` of each timing allow."""

    slowest: Timing = field(default_factory=Timing)
    fastest: Timing = field(default_factory=Timing)
    preempts: bool = False
    """Whether any node is configured to hand over to a better candidate."""

    @classmethod
    def of(cls, timings: Iterable[Timing], *, preempts: bool = False) -> Self:
        """Return the bounds of a group whose nodes have these `timings`."""
        there = tuple(timings)
        values = {f.name: [getattr(timing, f.name) for timing in there] for f in fields(Timing)}
        slowest = Timing(**{name: max(found) for name, found in values.items()})
        fastest = Timing(**{name: min(found) for name, found in values.items()})
        return cls(slowest, fastest, preempts)

    # --- a quiet network ----------------------------------------------------------------------------------------

    @property
    def converges_within(self) -> float:
        """How long after the last fault a group is one.

        The patience with a successor, a discovery window, the claims of the candidates, the hold-downs of a rival and
        of a lost master, and a merge. Where the nodes do not agree, those that are sooner found a group of their own
        meanwhile, which a rival goes to when its turn has come. A master that preempts hands over afterwards.
        """
        slow = self.slowest
        claims = CLAIM_STEPS * slow.claim_step + HINTS
        seconds = slow.takeover_patience + slow.discovery_window + claims + 2 * slow.rival_hold_max + slow.join_timeout
        if not self.agrees:
            seconds += slow.join_timeout + slow.dead_after
        if self.preempts:
            seconds += slow.preempt_after + slow.successor_timeout
        return seconds + NETWORK

    @property
    def replaces_within(self) -> float:
        """How long after the master of a quiet group has lost its power all are members of its successor.

        Where the nodes agree: else some have lost patience before the successor has missed the master.
        """
        return self.slowest.comes_within + 2 * NETWORK

    @property
    def agrees(self) -> bool:
        """Whether all nodes have the same timings."""
        return self.slowest == self.fastest

    @property
    def twin_is_awaited(self) -> float:
        """How much longer that takes where two nodes have one id.

        A master that merges waits in vain for the one that it refuses, up to the activation deadline.
        """
        return self.slowest.activation_deadline

    @property
    def refused_for(self) -> float:
        """How long a node that was refused leaves the master alone, and then joins, at most."""
        return self.slowest.hold_down_max + self.slowest.join_timeout

    @property
    def keys_settle_within(self) -> float:
        """How long after the convergence the last old key is retired everywhere: `retire_after` and a rekey.

        The activation deadline of that rekey is over with the convergence, but for what it exceeds its default by.
        """
        slow = self.slowest
        more = max(0.0, slow.activation_deadline - Timing().activation_deadline)
        return slow.retire_after + 2 * slow.rekey_spacing + more

    # --- datagrams ----------------------------------------------------------------------------------------------

    @property
    def keeps_datagrams(self) -> bool:
        """Whether a key is neither used too early nor dropped too soon: the second condition above."""
        slow, fast = self.slowest, self.fastest
        in_use = slow.activation_deadline + 2 * slow.rekey_spacing
        return fast.activation_deadline >= slow.takeover_patience and fast.retire_after >= in_use

    @property
    def cut_is_noticed_within(self) -> float:
        """How long after a cut the nodes that it parted have noticed it, though it may have been mended since."""
        return self.slowest.dead_after + self.slowest.heartbeat_interval

    @property
    def parted_after(self) -> float:
        """How long two nodes without a master, or with different ones, are members of one group."""
        return self.fastest.dead_after

    @property
    def reads_within(self) -> float:
        """How long after two nodes have become undisturbed members of one master they read each other.

        A key that a node came with may stay in use until it is superseded or given up, and stand in the way of the
        other key of its epoch.
        """
        slow = self.slowest
        heard = slow.dead_after + 2 * slow.heartbeat_interval
        return heard + slow.activation_deadline + 2 * slow.rekey_spacing
