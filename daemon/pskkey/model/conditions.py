"""Conditions: the present reasons why a node is not in its group, or why its group is not whole.

A condition begins and ends. It ends by itself when its reason is gone. The status, the metrics and the journal show all
of them, and no other list of troubles exists.
"""

from dataclasses import dataclass
from enum import StrEnum


class ConditionKind(StrEnum):
    """The kinds of conditions. Programs read the values: they never change."""

    MASTER_UNREACHABLE = "master_unreachable"
    """This node cannot join another master, or cannot merge with it."""
    MEMBER_UNREACHABLE = "member_unreachable"
    """A node sent JOIN to this master, but never answered GROUP."""
    TIMES_DIFFER = "times_differ"
    """A peer has other times of the election."""
    ID_ELSEWHERE = "id_elsewhere"
    """Another node has the id of this node."""
    NO_COMMON_LEVEL = "no_common_level"
    """A node has no protocol level in common with this node, so the two cannot be in one group."""
    NOBODY_ELIGIBLE = "nobody_eligible"
    """No node that this node knows may become master."""
    KEY_EXPIRED = "key_expired"
    """This node has had no master for `[key] expires_after`, so its session managers do not send."""
    NO_KEY_SERVER = "no_key_server"
    """The key server does not listen, or not on all its addresses."""
    NO_INTERFACE = "no_interface"
    """No interface that may be used has an address."""
    INTERFACE_MISSING = "interface_missing"
    """This machine has no interface of a configured name or address."""
    MDNS_BLOCKED = "mdns_blocked"
    """mDNS does not run, for example because another program has UDP port 5353 for itself."""
    MDNS_PARTIAL = "mdns_partial"
    """mDNS does not run on all interfaces."""
    RELOAD_FAILED = "reload_failed"
    """The files that were read last have a mistake."""
    TOO_BUSY = "too_busy"
    """The daemon served nobody for too long."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A present condition. Two conditions of the same kind and `peer` are the same condition at two moments."""

    kind: ConditionKind
    text: str
    """The fault, as a sentence without a full stop. It names the peer and its address."""
    remedy: str
    """The next step of the operator, as an imperative."""
    peer: str | None = None
    """The id of the node that it is about; None: it is about this machine."""
    address: str | None = None
    """The address that it is about."""
