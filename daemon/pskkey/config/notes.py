"""Notes about settings that are allowed, but do not have the effect that an operator may expect.

They concern the whole configuration: a setting that stands in the file and a default count alike.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from pskkey.config.network_names import find_excluded
from pskkey.config.schema import Config

HELD_FOR_INTERVALS: Final = 1.8
"""The shortest time for which a node holds an old key, in rekey intervals.

A node holds three keys. The third rekey after the key became current removes it: two rekeys after it was replaced. Each
rekey may come a tenth of the interval earlier (`core.key_slots.REKEY_JITTER`).
"""
JOIN_AFTER_SPLIT: Final = 2.0
"""Seconds from the activation of a key until the last node of a healed split no longer sends with its former key."""

SPANS_OF_CHANGE: Final = 4
"""Spans of `dead_after` in which a node as a rule has its next master when the network has lost the old one."""


def list_notes(config: Config) -> Iterator[str]:
    """Yield a sentence for each setting without its full effect."""
    if not config.node.eligible:
        yield (
            "[node] eligible: false, so this node never becomes master; a group needs at least one node with "
            "eligible = true"
        )
    ip = config.network.ip
    if (excluded := find_excluded(config.network.interfaces, ip)) is not None:
        yield f'[network] interfaces: {excluded} has no effect, because ip = "{ip}" excludes it'
    for address in config.network.addresses:
        if ip_address(address).is_loopback:
            yield f"[network] addresses: {address} is loopback, so no node of another machine can connect to it"
    yield from _key_notes(config)
    yield from _limit_notes(config)
    for table, key in (
        ("network", "interfaces"), ("handoff", "users"), ("handoff", "groups"), ("control", "users"),
        ("control", "groups"),
    ):  # fmt: skip
        names = getattr(getattr(config, table), key)
        if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
            yield f"[{table}] {key}: {repeated[0]} stands there twice; perhaps another name is meant"


def _key_notes(config: Config) -> Iterator[str]:
    key = config.key
    longest = HELD_FOR_INTERVALS * key.rekey_interval
    if key.rekey_interval and key.retire_after > longest:
        yield (
            f"[key] retire_after: {key.retire_after:g} is more than {HELD_FOR_INTERVALS:g} times rekey_interval = "
            f"{key.rekey_interval:g}; a node holds at most three keys, so it may drop an old key after {longest:g} s"
        )
    if key.rekey_interval and key.activation_deadline > key.rekey_interval:
        yield (
            f"[key] rekey_interval: {key.rekey_interval:g} is less than activation_deadline = "
            f"{key.activation_deadline:g}; a member that does not answer may delay each new key so long"
        )
    dead_after = config.election.dead_after
    if key.expires_after and key.expires_after < SPANS_OF_CHANGE * dead_after:
        yield (
            f"[key] expires_after: {key.expires_after:g} is less than {SPANS_OF_CHANGE} times dead_after = "
            f"{dead_after:g}; session managers may stop sending during a change of the master"
        )
    least = key.activation_deadline + JOIN_AFTER_SPLIT
    if key.retire_after < least:
        yield (
            f"[key] retire_after: {key.retire_after:g} is less than activation_deadline + {JOIN_AFTER_SPLIT:g} = "
            f"{least:g}; datagrams may be lost after a split"
        )


def _limit_notes(config: Config) -> Iterator[str]:
    limits = config.limits
    if limits.connections < limits.members - 1:
        yield (
            f"[limits] connections: {limits.connections} is less than members = {limits.members} without this node; "
            f"as master it has at most {limits.connections + 1} members, itself included"
        )
    if limits.connections_per_address > limits.connections and "connections_per_address" in limits.model_fields_set:
        yield (
            f"[limits] connections_per_address: {limits.connections_per_address} is more than connections = "
            f"{limits.connections}, which applies to all addresses together"
        )
