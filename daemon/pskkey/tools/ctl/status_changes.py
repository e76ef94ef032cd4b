"""The changes between two statuses: the events of `pskkeyctl monitor`.

A status is a full state, so changes that cancel each other out between two statuses are not seen. The counters show
those that matter.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pskkey.tools.ctl.status_reading import KeyStatus, MasterStatus, MemberStatus, Status
from pskkey.tools.ctl.status_view import TROUBLES, count_shown_digits, safe, short

_WARNINGS: Final = {
    **TROUBLES,
    "handshakes_dropped": "handshakes dropped",
    "connections_dropped": "connections dropped",
    "joins_failed": "joins failed",
    "members_refused": "members refused",
    "two_masters": "times a second master was met",
    "fenced": "messages of an old term refused",
    "sleeps": "times this master was asleep",
    "second_senders": "second senders refused",
    "protocol_errors": "protocol errors",
    "key_requests_answered": "keys given to clients that have not joined",
    "key_requests_refused": "key requests of clients that have not joined refused",
}
"""Counters whose rise is reported, and what they count."""


class StatusChange(NamedTuple):
    """One event: its name, a line for people, and the values for programs."""

    event: str
    text: str
    values: dict[str, Any]


def opening(status: Status) -> StatusChange:
    """Return the first event: the status at the beginning."""
    current = status.current
    values = {
        "group": status.group,
        "role": status.role,
        "term": status.term,
        "master": id_and_name(status.master),
        "epoch": current.epoch if current else None,
        "fingerprint": current.fingerprint if current else None,
        "members": len(status.members),
    }
    key = f"key {_key(current)}" if current else "no key yet"
    members = f"{len(status.members)} member{'' if len(status.members) == 1 else 's'}"
    role, master = safe(status.role), describe_master(status)
    return StatusChange("start", f"{role} in term {status.term}, {master}, {key}, {members}", values)


def changes(before: Status, after: Status) -> Iterator[StatusChange]:
    """Yield the changes, in the order that is easiest to understand."""
    if after.role != before.role:
        yield StatusChange(
            "role",
            f"role {safe(before.role)} -> {safe(after.role)}",
            {"before": before.role, "after": after.role},
        )
    if after.term != before.term:
        yield StatusChange("term", f"term {before.term} -> {after.term}", {"before": before.term, "after": after.term})
    if id_and_name(after.master) != id_and_name(before.master):
        values = {"before": id_and_name(before.master), "after": id_and_name(after.master)}
        yield StatusChange("master", describe_master(after), values)
    if after.level != before.level:
        text = f"protocol level {_or_none(before.level)} -> {_or_none(after.level)}"
        yield StatusChange("level", text, {"before": before.level, "after": after.level})
    yield from _members(before, after)
    yield from _keys(before, after)
    yield from _sessions(before, after)
    if after.sender_id != before.sender_id:
        text = f"sender id {_or_none(before.sender_id)} -> {_or_none(after.sender_id)}"
        yield StatusChange("sender_id", text, {"before": before.sender_id, "after": after.sender_id})
    yield from _warnings(before, after)
    for text in after.warnings:
        if text not in before.warnings:
            yield StatusChange("trouble", safe(text), {"text": text, "over": False})
    for text in before.warnings:
        if text not in after.warnings:
            yield StatusChange("trouble", f"over: {safe(text)}", {"text": text, "over": True})


def id_and_name(master: MasterStatus | None) -> dict[str, str] | None:
    """Return a master's id and name, for programs."""
    return None if master is None else {"id": master.id, "name": master.name}


def describe_master(status: Status) -> str:
    """Return the master's name and short id, for people."""
    master = status.master
    return f"master {safe(master.name)} ({short(master.id, count_shown_digits(status))})" if master else "no master"


def _members(before: Status, after: Status) -> Iterator[StatusChange]:
    old = {member.id: member for member in before.members}
    new = {member.id: member for member in after.members}
    digits = count_shown_digits(before, after)
    for member in (old[node] for node in old.keys() - new.keys()):
        yield _member("member_left", "left", member, digits)
    for member in (new[node] for node in new.keys() - old.keys()):
        yield _member("member_joined", "joined", member, digits)


def _member(event: str, what: str, member: MemberStatus, digits: int) -> StatusChange:
    place = f" at {safe(member.address)}" if member.address else ""
    values = {"id": member.id, "name": member.name, "address": member.address}
    return StatusChange(event, f"{safe(member.name)} ({short(member.id, digits)}){place} {what}", values)


def _keys(before: Status, after: Status) -> Iterator[StatusChange]:
    # An epoch alone does not name a key: each partition of a split group may have made one.
    old = {(key.epoch, key.fingerprint): key for key in before.keys}
    new = {(key.epoch, key.fingerprint): key for key in after.keys}
    for key in (*before.keys, *(key for name, key in new.items() if name not in old)):
        was = old.get((key.epoch, key.fingerprint))
        now = new.get((key.epoch, key.fingerprint))
        was_state, state = was.state if was else None, now.state if now else None
        if was_state != state:
            values = {"epoch": key.epoch, "fingerprint": key.fingerprint, "before": was_state, "after": state}
            text = f"key {_key(key)}: {safe(was_state or 'new')} -> {safe(state or 'dropped')}"
            yield StatusChange("key", text, values)


def _sessions(before: Status, after: Status) -> Iterator[StatusChange]:
    old = Counter((session.pid, session.uid, session.sender) for session in before.sessions)
    new = Counter((session.pid, session.uid, session.sender) for session in after.sessions)
    for event, what, differing in (
        ("session_detached", "detached", old - new),
        ("session_attached", "attached", new - old),
    ):
        for pid, uid, sender in differing.elements():
            text = f"session manager {pid} of user {uid} {what}, {'to send' if sender else 'to receive only'}"
            yield StatusChange(event, text, {"pid": pid, "uid": uid, "sender": sender})


def _warnings(before: Status, after: Status) -> Iterator[StatusChange]:
    for counter, what in _WARNINGS.items():
        old, total = before.counters.get(counter, 0), after.counters.get(counter, 0)
        # A restarted daemon counts from zero.
        more = total - old if total >= old else total
        if more:
            text = f"{more} more {what}, {total} in all"
            yield StatusChange("warning", text, {"counter": counter, "more": more, "total": total})


def _key(key: KeyStatus) -> str:
    return f"epoch {key.epoch}, {safe(key.fingerprint)}"


def _or_none(number: int | None) -> str:
    return "none" if number is None else str(number)
