"""Faults of the network: an unplugged cable, a network in partitions, lost datagrams.

The switch makes them, with the bridge family of nftables, so hosts notice them as they notice faults of a real switch.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.lab.namespaces import Host, Switch
from tests.lab.traffic_peer import PORT

_TABLE: Final = "faults"


@dataclass(slots=True)
class Dropped:
    """Datagrams of the traffic that a lossy network has dropped. The numbers are set when the loss ends."""

    up: int = 0
    """On the way from their sender to the switch: no receiver has got them."""
    down: int = 0
    """On the way from the switch to one of their receivers."""


@contextmanager
def unplugged(hosts: Switch, host: Host) -> Iterator[None]:
    """Unplug the cable of a host for the duration of the block."""
    hosts.run("ip", "link", "set", host.port, "down")
    try:
        yield
    finally:
        hosts.run("ip", "link", "set", host.port, "up")


@contextmanager
def parted(hosts: Switch, one: Sequence[Host], other: Sequence[Host]) -> Iterator[None]:
    """Let nothing pass between two sides of the network."""
    (a, b) = (f"{{ {', '.join(host.port for host in side)} }}" for side in (one, other))
    rules = [f"iifname {a} oifname {b} drop", f"iifname {b} oifname {a} drop"]
    with _table(hosts, [f"chain between {{ type filter hook forward priority 0; {'; '.join(rules)}; }}"]):
        yield


@contextmanager
def lossy(hosts: Switch, percent: int) -> Iterator[Dropped]:
    """Drop `percent` of all packets that hosts send, and the same share of all packets that they receive."""
    chains = ["counter up { }", "counter down { }"]
    for name, hook in (("up", "prerouting"), ("down", "forward")):
        chance = f"numgen random mod 100 < {percent}"
        traffic = f"ether type ip udp dport {PORT}"
        rules = f"{traffic} {chance} counter name {name} drop; {traffic} accept; {chance} drop;"
        chains.append(f"chain way_{name} {{ type filter hook {hook} priority 0; {rules} }}")
    dropped = Dropped()
    with _table(hosts, chains):
        yield dropped
        # Without its rules the table drops nothing more; it keeps its counters.
        hosts.run("nft", f"flush table bridge {_TABLE}")
        listed = json.loads(hosts.run("nft", "-j", "list", "counters", "table", "bridge", _TABLE))
    counters = [entry["counter"] for entry in listed["nftables"] if "counter" in entry]
    packets = {counter["name"]: int(counter["packets"]) for counter in counters}
    dropped.up, dropped.down = packets["up"], packets["down"]


@contextmanager
def _table(hosts: Switch, contents: Sequence[str]) -> Iterator[None]:
    body = "\n".join(contents)
    hosts.run("nft", f"table bridge {_TABLE} {{\n{body}\n}}")
    try:
        yield
    finally:
        hosts.run("nft", f"delete table bridge {_TABLE}")
