"""The operator's settings of a node, as the core uses them. All times are in seconds."""

from dataclasses import dataclass, field
from typing import Final

from pskkey.core.confirmations import CONFIRMS_WITHIN
from pskkey.model import Member, Suite, Times

DAY: Final = 86400.0
"""Seconds."""

MOST_UNREAD: Final = 4
"""How many times `dead_after` a busy node waits at most until it has read what had arrived before a deadline."""

MEMBERS_PER_ADDRESS: Final = 64
"""Default limit of the nodes at one address that have a place or a sender id. Its connections have the same limit."""

BEAT_STEP: Final = 0.0075
"""Seconds between the heartbeats of a master, for each node of its group, if that is longer than `heartbeat_interval`.
A heartbeat and its answer cost the master as much as 60 us on a fast processor."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of the protocol, and what they apply to. The properties follow from the fields."""

    discovery_window: float = 1.0
    claim_step: float = 0.3
    heartbeat_interval: float = 0.5
    dead_after: float = 1.5
    reconnect_timeout: float = 0.3
    successor_timeout: float = 0.5
    join_timeout: float = 2.0
    hold_down_min: float = 1.0
    hold_down_max: float = 60.0
    rival_hold_max: float = 2.0
    beacon_interval: float = 2.0
    preempt_after: float = 2.0
    group_interval: float = 0.1
    activation_deadline: float = 5.0
    retire_after: float = 10.0
    rekey_spacing: float = 1.0
    request_interval: float = 2.0
    managers_arrive: float = 0.5
    managers_return: float = 2.0
    rekey_interval: float = DAY
    rekey_on_leave: bool = False
    departure_spacing: float = 60.0
    expires_after: float = 0.0

    @property
    def times(self) -> Times:
        """The times that the other end of a session needs to know."""
        return Times(self.heartbeat_interval, self.dead_after)

    def beat_interval(self, nodes: int) -> float:
        """The time between two heartbeats of the master of so many nodes."""
        longest = min(1.5 * self.heartbeat_interval, 0.4 * self.dead_after)
        return max(self.heartbeat_interval, min(longest, BEAT_STEP * nodes))

    @property
    def comes_within(self) -> float:
        """The time in which a node joins again after the end of its session, which it notices by silence.

        So the last member joins the next master within this time after the first member has lost the old master.
        """
        return self.dead_after + self.heartbeat_interval + self.reconnect_timeout

    @property
    def left_after(self) -> float:
        """The time after which a member that is away has left: it must join again, and confirm that."""
        return self.comes_within + CONFIRMS_WITHIN

    @property
    def former_key_span(self) -> float:
        """The longest time that a member sends with its former key. Others must join, and a key must be activated."""
        return self.comes_within + self.activation_deadline

    @property
    def takeover_patience(self) -> float:
        """The time for which a node waits for a successor that is alive but not master yet.

        After `comes_within` the successor has lost the old master too. Then it needs one attempt to reach the nodes
        before it in the succession.
        """
        return self.comes_within + self.successor_timeout


@dataclass(slots=True)
class Settings:
    """The settings of one node: its group, its own entry in the member map, its incarnation and its limits.

    `incarnation` is the random name of the incarnation. A persisted state replaces it. `nonce` has 1 to 10 random
    characters, new in each process. The challenges of the node begin with it. `me` and the fields from `max_members` on
    change while the node runs (`events.AddressesChanged`, `events.SettingsChanged`), so no part keeps a copy.
    `me.sender_id` is the configured sender id. `me.version` and `me.speaks` never change. `suite` is the suite of the
    keys that the node makes as master. `key_requests`: whether KEY_REQ is answered on a session that has not joined.
    """

    group: str
    me: Member
    incarnation: str
    nonce: str
    max_members: int = 1024
    members_per_address: int = MEMBERS_PER_ADDRESS
    preempt: bool = False
    timing: Timing = field(default_factory=Timing)
    suite: Suite = Suite.PSK_CHACHA20_POLY1305
    key_requests: bool = True

    def change(
        self,
        max_members: int,
        members_per_address: int,
        preempt: bool,
        timing: Timing,
        suite: Suite,
        key_requests: bool,
    ) -> None:
        """Use these values from now on."""
        self.max_members, self.members_per_address = max_members, members_per_address
        self.preempt, self.timing, self.suite, self.key_requests = preempt, timing, suite, key_requests
