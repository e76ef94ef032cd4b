"""The condition of mDNS for the operator: where it does not run, why, and the next step."""

import errno
import os
from collections.abc import Sequence
from typing import Final

from pskkey.adapters.discovery.multicast_sockets import PORT, Fault
from pskkey.adapters.discovery.port_holder import describe_holder
from pskkey.model import Condition, ConditionKind

HOLDER_LOOKED_UP_EVERY: Final = 60.0
"""Seconds."""

_MAX_NAMED: Final = 6
"""Interfaces that a sentence names."""

_NO_ROOM: Final = {4: "net.ipv4.igmp_max_memberships=20", 6: "net.core.optmem_max=131072"}
"""The limit of memberships by IP version, with the usual value."""

_WAIT: Final = "wait, and if this lasts, restart pskkeyd"

_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})

_TOO_MANY_FILES: Final = "too many open files", "raise LimitNOFILE= of the service"
"""The cause and the remedy for _NO_DESCRIPTORS."""


class PortHolder:
    """The program that has UDP port 5353 for itself, looked up seldom."""

    def __init__(self) -> None:
        self._found: str | None = None
        self._valid_until = float("-inf")

    def describe(self, now: float) -> str:
        """Return the program at time `now` (seconds)."""
        if now >= self._valid_until:
            self._found = describe_holder(PORT)
            self._valid_until = now + HOLDER_LOOKED_UP_EVERY
        return self._found or "another program"

    def forget(self) -> None:
        """Look it up when it is needed again."""
        self._valid_until = float("-inf")


def describe_faults(faults: Sequence[Fault], without: Sequence[str], is_running: bool, holder: str) -> Condition | None:
    """Return the condition for what does not run; None: all runs.

    `without` are interfaces beyond those that mDNS may have. `holder` is the program that has the port.
    """
    causes: dict[tuple[str, str, str], list[str]] = {}
    for fault in faults:
        places = causes.setdefault((f" with IPv{fault.version}", *_cause(fault, holder)), [])
        if fault.label is not None:
            places.append(fault.label)
    if without:
        remedy = "name the interfaces of the group in [network] interfaces"
        causes["", "there are too many interfaces", remedy] = list(without)
    if not causes:
        return None
    sentences = [f"mDNS does not run{how}{_on(places)}: {cause}" for (how, cause, _), places in causes.items()]
    remedies = dict.fromkeys(remedy for _, _, remedy in causes)
    kind = ConditionKind.MDNS_PARTIAL if is_running else ConditionKind.MDNS_BLOCKED
    return Condition(kind, "; ".join(sentences), "; ".join(remedies))


def describe_failure(error: Exception, is_running: bool) -> Condition:
    """Return the condition for a failure that is none of one interface."""
    cause, remedy = str(error) or repr(error), _WAIT
    if isinstance(error, OSError):
        cause = error.strerror or cause
        if error.errno in _NO_DESCRIPTORS:
            cause, remedy = _TOO_MANY_FILES
    if is_running:
        return Condition(ConditionKind.MDNS_PARTIAL, f"mDNS does not follow changes of the network: {cause}", remedy)
    return Condition(ConditionKind.MDNS_BLOCKED, f"mDNS does not run: {cause}", remedy)


def _cause(fault: Fault, holder: str) -> tuple[str, str]:
    """Return the cause of a fault, and the remedy."""
    if fault.is_port_taken:
        remedy = "stop this program, or let it share the port (avahi-daemon.conf: disallow-other-stacks=no)"
        return f"{holder} has UDP port {PORT} for itself", remedy
    if fault.is_no_room:
        return "the kernel allows no further multicast membership", f"run sysctl {_NO_ROOM[fault.version]}"
    if fault.error in _NO_DESCRIPTORS:
        return _TOO_MANY_FILES
    remedy = "correct the interface, or leave it out in [network] interfaces"
    return os.strerror(fault.error), remedy


def _on(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    more = f" and {len(labels) - _MAX_NAMED} more" if len(labels) > _MAX_NAMED else ""
    return f" on {', '.join(labels[:_MAX_NAMED])}{more}"
