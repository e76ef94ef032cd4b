"""The conditions of this machine and of the operator's files, without those of discovery and of the key port."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from pskkey.adapters.discovery.network import Network
from pskkey.config.own_interfaces import MAX_NAMED, describe_missing
from pskkey.model import Condition, ConditionKind

AWAY_SHARE: Final = 1 / 3
"""The longest acceptable turn of the event loop, as a share of `dead_after`. Peers must not take this node for dead."""


def find_machine_conditions(
    *,
    chosen: Sequence[str],
    ip: Literal["both", "v4", "v6"],
    network: Network | None,
    has_reload_failed: bool,
    away: float,
    dead_after: float,
) -> Iterator[Condition]:
    """Yield the present conditions.

    `chosen` is `[network] interfaces`, and `ip` is `[network] ip`. `network` is None before the first look at it.
    `away` is the longest recent time (seconds) for which the daemon served nobody.
    """
    if network is not None and network.missing:
        text = describe_missing(network.missing, network.there)
        yield Condition(ConditionKind.INTERFACE_MISSING, text, "connect it, or correct the name")
    if network is not None and not network.multicast:
        # An entry may be an address, whose interface has others. So no interface is the subject then.
        where = f"nothing in [network] interfaces = {', '.join(chosen)}"
        if not chosen:
            where = "no interface of this machine but loopback"
        what, remedy = "an address now", "connect the network, or give the interface an address"
        if ip != "both":
            version = "IPv4" if ip == "v4" else "IPv6"
            what = f"an {version} address now, and [network] ip is {ip}"
            remedy = f'give the interface an {version} address, or set [network] ip = "both"'
        more = f" and {len(network.there) - MAX_NAMED} more" if len(network.there) > MAX_NAMED else ""
        there = (", ".join(network.there[:MAX_NAMED]) or "none") + more
        text = f"alone: {where} has {what}, so no other node is found; there are: {there}"
        yield Condition(ConditionKind.NO_INTERFACE, text, remedy)
    if has_reload_failed:
        text = "the last reload failed"
        yield Condition(ConditionKind.RELOAD_FAILED, text, "see the journal, correct the file and reload again")
    if away > dead_after * AWAY_SHARE:
        text = (
            f"the daemon served nobody for {away * 1000:.0f} ms at once in the last minute: the machine is too busy, "
            "or somebody floods the daemon"
        )
        yield Condition(ConditionKind.TOO_BUSY, text, "look at the machine's load and at journalctl -u pskkeyd")
