"""The daemon's status for people: short, and safe for a terminal."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pskkey.model import count_distinct_digits
from pskkey.tools.ctl.status_reading import KeyStatus, RequestStatus, Status

TROUBLES: Final[dict[str, str]] = {
    "handshakes_failed": "handshakes failed",
    "authentications_failed": "authentications failed",
    "connections_refused": "connections refused",
    "bad_packets": "bad packets",
    "adverts_rejected": "adverts rejected",
    "duplicate_ids": "times another node had this node's id",
}
"""Counters that should be zero, and what they count."""

MOST_NAMED: Final = 5
"""Members that one line names."""

TROUBLE_SHOWN: Final = 86400.0
"""Seconds for which a rise of one of them is shown: an operator sees the troubles of the night in the morning."""


_REASONS: Final[dict[str, str]] = {
    "operator": "the operator asked for one",
    "sequence_high_water": "a sender will run out of sequence numbers",
    "sender_restarted": "a restarted sender may not send yet",
    "receiver_began": "a new receiver does not receive yet",
    "other": "a newer program asked for one",
}
"""The reasons of rekey requests."""


class Painter:
    """Formats text for a terminal, in colour if `colour`."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def bold(self, text: str) -> str:
        """Return the text in bold."""
        return self._paint(text, "1")

    def good(self, text: str) -> str:
        """Return the text in green."""
        return self._paint(text, "32")

    def warning(self, text: str) -> str:
        """Return the text in yellow."""
        return self._paint(text, "33")

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def render_status(status: Status, painter: Painter) -> list[str]:
    """Return the lines of `pskkeyctl status`."""
    paint = painter.good if status.joined else painter.warning
    node = status.node
    own = [f"{safe(node.name)} ({short(node.id, count_shown_digits(status))})", f"priority {node.priority}"]
    own += [] if node.eligible else ["never master"]
    own += [] if status.sender_id is None else [f"sender id {status.sender_id}"]
    rows = [
        ("Node", ", ".join(own)),
        ("Master", _master(status)),
        *(
            ("Key" if key.state == "current" else f"{safe(key.state).capitalize()} key", _key(key))
            for key in status.keys
        ),
        *([] if status.keys else [("Key", "none yet")]),
        *(("Asked for", _request(request)) for request in status.requests),
        ("Members", _members(status)),
        *([] if status.level is None else [("Protocol", _protocol(status))]),
        ("Sessions", _sessions(status)),
    ]
    rows += [("" if number else "Trouble", painter.warning(text)) for number, text in enumerate(_troubles(status))]
    head = f'{paint("●")} {painter.bold(paint(safe(status.role)))} in group "{safe(status.group)}", term {status.term}'
    width = max(len(name) for name, _ in rows)
    return [head, *(f"  {name:<{width}}  {text}" for name, text in rows)]


def render_members(status: Status, painter: Painter) -> list[str]:
    """Return the lines of `pskkeyctl members`: a table, this node marked with a star; versions and PSKs if known."""
    head = ["", "NAME", "ID", "ROLE", "ADDRESS", "PRIORITY", "SENDER", "EPOCH", "VERSION", "PSK"]
    digits = count_shown_digits(status)
    rows = [
        [
            "*" if member.id == status.node.id else "",
            safe(member.name),
            short(member.id, digits),
            safe(member.role),
            safe(member.address or "-"),
            str(member.priority) if member.eligible else f"{member.priority}, never master",
            _or_dash(member.sender_id),
            _or_dash(member.acked_epoch),
            safe(member.version or "-"),
            safe(member.psk_identity or "-"),
        ]
        for member in status.members
    ]
    # The last two columns are known to some nodes only.
    shown = [at for at in range(len(head)) if at < len(head) - 2 or any(row[at] != "-" for row in rows)]
    head, rows = [head[at] for at in shown], [[row[at] for at in shown] for row in rows]
    return _table(head, rows, painter, lambda row: row[3] == "master")


def render_keys(status: Status, painter: Painter) -> list[str]:
    """Return the lines of `pskkeyctl keys`: a table."""
    rows = [
        [str(key.epoch), safe(key.state), safe(key.fingerprint), safe(key.suite), duration(key.age_s)]
        for key in status.keys
    ]
    return _table(["EPOCH", "STATE", "FINGERPRINT", "SUITE", "AGE"], rows, painter, lambda row: row[1] == "current")


def safe(text: str) -> str:
    """Return the text of another node, with `?` for each character that a terminal might obey."""
    return "".join(char if char.isprintable() else "?" for char in text)


def short(node_id: str, digits: int) -> str:
    """Return the first digits of a node id."""
    return safe(node_id[:digits])


def count_shown_digits(*known: Status) -> int:
    """Return how many digits of an id to show: enough to distinguish all nodes that these statuses name, at least 8."""
    named = (one.id for status in known for one in (status.node, status.master, *status.members) if one is not None)
    return count_distinct_digits(named)


def duration(seconds: float) -> str:
    """Return a time in the largest unit that gives at least 2 of it."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _master(status: Status) -> str:
    master = status.master
    if master is None:
        return "none yet"
    if master.id == status.node.id:
        return "this node"
    named = f"{safe(master.name)} ({short(master.id, count_shown_digits(status))})"
    return named if master.address is None else f"{named} at {safe(master.address)} port {master.port}"


def _key(key: KeyStatus) -> str:
    return f"epoch {key.epoch}, {safe(key.fingerprint)}, {safe(key.suite)}, for {duration(key.age_s)}"


def _request(request: RequestStatus) -> str:
    when = f"in {duration(request.due_s)}" if request.due_s >= 1 else "now"
    return f"a new key {when}: {_REASONS.get(request.reason, safe(request.reason))}"


def _members(status: Status) -> str:
    late = len(status.late)
    return (
        f"{len(status.members)}, of which {late} not at epoch {status.current_epoch}"
        if late
        else str(len(status.members))
    )


def _protocol(status: Status) -> str:
    held = status.held_back_by
    if not held:
        return f"level {status.level}"
    more = f" and {len(held) - MOST_NAMED} more" if len(held) > MOST_NAMED else ""
    return f"level {status.level}, held back by {', '.join(map(safe, held[:MOST_NAMED]))}{more}: see pskkeyctl members"


def _sessions(status: Status) -> str:
    senders = sum(session.sender for session in status.sessions)
    return f"{len(status.sessions)}, of which {senders} to send" if status.sessions else "none attached"


def _troubles(status: Status) -> Iterator[str]:
    """Yield the present troubles, then the recent ones."""
    if status.conditions:
        for one in status.conditions:
            yield f"{safe(one.text)}; {safe(one.remedy)} (for {duration(one.since_s)})"
    else:
        yield from map(safe, status.warnings)
    for name, what in TROUBLES.items():
        count, age = status.counters.get(name, 0), status.counter_ages_s.get(name)
        if count and (age is None or age <= TROUBLE_SHOWN):
            yield f"{what}: {count}" + ("" if age is None else f", the last {duration(age)} ago")


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], painter: Painter, stands_out: Callable[[Sequence[str]], bool]
) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        return "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()

    return [line(head), *(painter.bold(line(row)) if stands_out(row) else line(row) for row in rows)]
