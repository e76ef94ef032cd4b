"""The status as metrics: the verb `pskkeyctl metrics`, in the text format of Prometheus (0.0.4), or as JSON.

All names and their help are in the two tables here. The name and the meaning of a metric never change. A counter
that the daemon does not have (yet) is 0; a counter that is not in the table is skipped.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from pskkey.daemon.event_kinds import NodeEvent
from pskkey.daemon.event_table import EVENTS
from pskkey.tools.ctl.status_reading import Status
from pskkey.tools.ctl.status_view import safe

SCHEMA: Final = 1
ROLES: Final = ("listening", "joining", "client", "master")

type Samples = list[tuple[dict[str, str], float]]
"""Labels and value of each."""


class Gauge(NamedTuple):
    """A value that rises and falls: its name without `pskkey_` in front, its help, and the function that reads it."""

    name: str
    help: str
    samples: Callable[[Status], Samples]


def _one(value: Callable[[Status], float | None]) -> Callable[[Status], Samples]:
    """Return a single sample without labels, or none for None."""
    return lambda status: [] if (found := value(status)) is None else [({}, found)]


def _node(status: Status) -> Samples:
    return [({"group": status.group, "id": status.node.id, "name": status.node.name}, 1)]


GAUGES: Final = (
    Gauge("build_info", "Always 1; the version of the daemon.", lambda s: [({"version": s.node.version}, 1)]),
    Gauge("node_info", "Always 1; the group, and the id and name of this node.", _node),
    Gauge("priority", "The priority of this node.", _one(lambda s: s.node.priority)),
    Gauge("eligible", "Whether this node may become master: 1 or 0.", _one(lambda s: int(s.node.eligible))),
    Gauge(
        "role",
        "The role of this node in its group: 1 for that role, 0 for the others.",
        lambda s: [({"role": role}, int(s.role == role)) for role in ROLES],
    ),
    Gauge("term", "The term, which rises with each new master.", _one(lambda s: s.term)),
    Gauge("epoch", "The epoch of the key to send with; 0 while there is none.", _one(lambda s: s.current_epoch or 0)),
    Gauge(
        "key_age_seconds",
        "Seconds since this node got the key to send with; absent while there is none.",
        _one(lambda s: s.current.age_s if s.current else None),
    ),
    Gauge("keys", "The keys that this node has; one of them is the key to send with.", _one(lambda s: len(s.keys))),
    Gauge("members", "The members of the group as this node knows it.", _one(lambda s: len(s.members))),
    Gauge(
        "members_late",
        "On the master: members that have acknowledged neither the present key nor the next. Elsewhere 0.",
        _one(lambda s: len(s.late)),
    ),
    Gauge(
        "protocol_level",
        "The protocol level of the group, the highest one that all members speak; absent without a group.",
        _one(lambda s: s.level),
    ),
    Gauge(
        "protocol_level_highest",
        "The highest protocol level that this node speaks.",
        _one(lambda s: s.node.speaks[-1] if s.node.speaks else None),
    ),
    Gauge(
        "members_holding_back",
        "Members that speak no higher protocol level than that of the group, although others do.",
        _one(lambda s: len(s.held_back_by)),
    ),
    Gauge(
        "loop_away_ms",
        "The longest time, in milliseconds and within the last minute, for which the daemon served nobody.",
        _one(lambda s: s.loop_away_ms),
    ),
    Gauge(
        "condition",
        "1 for each present reason why this node is in no group, or why its group is not whole.",
        lambda s: [({"kind": one.kind, "peer": one.peer or ""}, 1) for one in s.conditions],
    ),
    Gauge("sessions", "The local session managers that follow the key.", _one(lambda s: len(s.sessions))),
    Gauge(
        "sessions_sending",
        "Those of them that may send.",
        _one(lambda s: sum(session.sender for session in s.sessions)),
    ),
)

_OF_ADAPTERS: Final[dict[str, str]] = {
    "accept_failures": "Times that a connection could not be accepted, at the key server or a local socket.",
    "adverts_accepted": "Adverts of other nodes that were signed with an accepted PSK.",
    "adverts_rejected": "Adverts in the name of this group without such a signature.",
    "mdns_dropped": "mDNS packets about our service that were malformed, too large or too many.",
    "mdns_errors": "Queries on which python-zeroconf has failed.",
    "authentications_failed": "TLS handshakes, as server or client, that failed for the PSK or its identity.",
    "bad_packets": "Packets that broke the protocol.",
    "connections_dropped": "Connections given up to make room for newer ones.",
    "connections_refused": "Connections refused because of a limit or of a missing permission.",
    "connections_silent": "Local connections closed because no message had come on them.",
    "connections_stalled": "Connections ended because the peer did not read.",
    "connects_failed": "Sessions with other nodes that could not be opened.",
    "connects_ok": "Sessions with other nodes that were opened.",
    "handshakes_dropped": "TLS handshakes given up to make room for newer ones.",
    "handshakes_failed": "TLS handshakes of clients that failed.",
    "handshakes_ok": "TLS handshakes of clients that succeeded.",
    "socket_options_refused": "Socket options that the system refused, and that the daemon does without.",
}
COUNTERS: Final = {**_OF_ADAPTERS, **{event.value: EVENTS[event].counted for event in NodeEvent}}
"""The help of the daemon's counters, by their names in the status. As metrics they are `pskkey_NAME_total`."""


def metrics(status: Status) -> list[dict[str, Any]]:
    """Return all metrics: `name`, `type`, `help`, and `samples` with `labels` and `value` each."""
    found = []
    for gauge in GAUGES:
        samples = [{"labels": labels, "value": value} for labels, value in gauge.samples(status)]
        found.append({"name": f"pskkey_{gauge.name}", "type": "gauge", "help": gauge.help, "samples": samples})
    for name, text in COUNTERS.items():
        samples = [{"labels": {}, "value": status.counters.get(name, 0)}]
        found.append({"name": f"pskkey_{name}_total", "type": "counter", "help": text, "samples": samples})
    return found


def exposition(families: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the text format, each without its end."""
    for family in families:
        name = family["name"]
        yield f"# HELP {name} {family['help']}"
        yield f"# TYPE {name} {family['type']}"
        for sample in family["samples"]:
            labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in sample["labels"].items())
            yield f"{name}{{{labels}}} {sample['value']}" if labels else f"{name} {sample['value']}"


def _escaped(value: str) -> str:
    """Return a label's value, which an operator chose, escaped for its place between quotation marks."""
    return safe(value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
