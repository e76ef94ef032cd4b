"""What can be done to the network: cables that are out, a network in parts, datagrams that are lost on their way.

All of it is done at the switch, with nftables' bridge family, so the hosts see of it what they would see of a real one.
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
    """Datagrams of the traffic that a lossy network has dropped; known when it loses nothing more."""

    up: int = 0
    """On the way from their sender to the switch: nobody has got them."""
    down: int = 0
    """On the way from the switch to one of their receivers."""


@contextmanager
def unplugged(hosts: Switch, host: Host) -> Iterator[None]:
    """Have the cable of a host out."""
    hosts.run("ip", "link", "set", host.port, "down")
    try:
        yield
    finally:
        hosts.run("ip", "link", "set", host.port, "up")


@contextmanager
def parted(hosts: Switch, one: Sequence[Host], other: Sequence[Host]) -> Iterator[None]:
    """Let nothing pass between two parts of the network."""
    (a, b) = (f"{{ {', '.join(host.port for host in side)} }}" for side in (one, other))
    rules = [f"iifname {a} oifname {b} drop", f"iifname {b} oifname {a} drop"]
    with _table(hosts, [f"chain between {{ type filter hook forward priority 0; {'; '.join(rules)}; }}"]):
        yield


@contextmanager
def lossy(hosts: Switch, percent: int) -> Iterator[Dropped]:
    """Lose `percent` of all that hosts send, and again of all that they receive."""
    chains = ["counter up { }", "counter down { }"]
    for name, hook in (("up", "prerouting"), ("down", "forward")):
        chance = f"numgen random mod 100 < {percent}"
        traffic = f"ether type ip udp dport {PORT}"
        rules = f"{traffic} {chance} counter name {name} drop; {traffic} accept; {chance} drop;"
        chains.append(f"chain way_{name} {{ type filter hook {hook} priority 0; {rules} }}")
    dropped = Dropped()
    with _table(hosts, chains):
        yield dropped
        # Without its rules it drops nothing more, and the counters stay.
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
