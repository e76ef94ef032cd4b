"""What the operator decided about a node, as the core takes it. All times are in seconds."""

from dataclasses import dataclass, field
from typing import Final

from pskkey.model import Member, Suite

MEMBERS_PER_ADDRESS: Final = 64
"""Nodes from one address that have a place or a sender id, unless configured: as many as there may be connections."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take. What depends on other times is derived from them."""

    discovery_window: float = 1.0
    claim_step: float = 0.3
    heartbeat_interval: float = 0.5
    dead_after: float = 1.5
    reconnect_timeout: float = 0.3
    successor_timeout: float = 0.5
    join_timeout: float = 2.0
    takeover_retry: float = 0.05
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
    consumers_arrive: float = 0.5
    consumers_return: float = 2.0
    rekey_interval: float = 0.0

    @property
    def comes_within(self) -> float:
        """How long after the first of a group has lost its master the last one may be on its way to the next."""
        return self.dead_after + self.heartbeat_interval + self.reconnect_timeout

    @property
    def former_key_span(self) -> float:
        """How long a member may go on with the key that it came with: others come, and a new key has its turn."""
        return self.comes_within + self.activation_deadline

    @property
    def takeover_patience(self) -> float:
        """How long a successor that is alive and no master yet is asked again: until it must have lost its master too.

        Then it needs one attempt to reach those before it in the succession.
        """
        return self.comes_within + self.successor_timeout


@dataclass(slots=True)
class Settings:
    """One node's own part: its group, itself as a member, and its memory's name.

    `instance` is random; a node that starts with what was saved takes that of the saved memory. `nonce` is random too,
    1 to 10 characters, and another one in each process: its challenges begin with it. The others change while
    the node runs (`events.AddressesChanged`, `events.SettingsChanged`), so they are read here each time and kept
    nowhere else; `me.sender_id` is the configured wish for one, and `suite` that of the keys that it makes as master.
    """

    group: str
    me: Member
    instance: str
    version: str
    nonce: str
    max_members: int = 1024
    members_per_address: int = MEMBERS_PER_ADDRESS
    preempt: bool = False
    timing: Timing = field(default_factory=Timing)
    suite: Suite = Suite.PSK_CHACHA20_POLY1305

    def change(self, max_members: int, members_per_address: int, preempt: bool, timing: Timing, suite: Suite) -> None:
        """Take this from now on."""
        self.max_members, self.members_per_address = max_members, members_per_address
        self.preempt, self.timing, self.suite = preempt, timing, suite
