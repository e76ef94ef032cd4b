"""The content of `status`: one node's view of itself, its group and its keys, without any secret."""

from collections.abc import Mapping, Sequence
from typing import Any

from pskkey.core.node import Node
from pskkey.core.settings import Settings
from pskkey.daemon.conditions import sentence as condition_sentence
from pskkey.daemon.counters import DatedCounter
from pskkey.errors import without_keys
from pskkey.model import Group, Member, Role

SCHEMA = 1


def status(
    node: Node,
    settings: Settings,
    counters: DatedCounter,
    conditions: Sequence[Mapping[str, Any]],
    identities: Mapping[str, str],
    loop_away: float,
    now: float,
) -> dict[str, Any]:
    """Return the status of schema 1. Fields are added, never renamed. `now` is the time of the node's clock in seconds.

    `conditions` are the rows of `ConditionList`. `identities` are the known PSK identities by node id. `loop_away` is
    the longest recent turn (seconds) of the event loop.
    """
    view, group = node.view(), node.group()
    members = group.members if group else ()
    return {
        "schema": SCHEMA,
        "group": settings.group,
        "role": str(view.role),
        "term": view.term,
        "node": {
            "id": settings.me.id,
            "name": settings.me.name,
            "priority": settings.me.priority,
            "eligible": settings.me.eligible,
            "version": settings.me.version,
            "speaks": list(settings.me.speaks),
        },
        "master": None if view.master is None else _master(view.master, view.master_address),
        "keys": [
            {
                "epoch": held.epoch,
                "suite": held.key.suite.name,
                "fingerprint": held.key.fingerprint,
                "state": str(held.slot),
                "age_s": round(now - held.since, 1),
            }
            for held in view.keys
        ],
        "requests": [
            {"reason": reason.name.lower(), "due_s": round(max(0.0, due - now), 1)}
            for reason, due in node.pending_requests()
        ],
        "sender_id": node.key_state().sender_id,
        "level": group.level if group else None,
        "held_back_by": [member.name for member in group.holding_back] if group else [],
        "members": [_member(m, group, identities.get(m.id)) for m in members],
        "sessions": [
            {
                "pid": c.process.pid,
                "uid": c.process.uid,
                "sender": c.sends,
                "acked_epoch": c.acked_epoch,
                "level": c.level,
            }
            for c in view.managers
            if c.watches
        ],
        "counters": dict(sorted(counters.items())),
        "counter_ages_s": {name: round(age, 1) for name, age in sorted(counters.ages().items())},
        "loop_away_ms": round(loop_away * 1000, 1),
        "conditions": list(conditions),
        "warnings": [condition_sentence(row["text"], row["remedy"]) for row in conditions],
    }


def sentence(node: Node) -> str:
    """Return the status in one line, as `systemctl status` shows it."""
    view = node.view()
    key = f"key epoch {view.current.epoch}" if view.current else "no key yet"
    match view.role:
        case Role.MASTER:
            count = view.member_count
            return f"Master of {count} node{'s' if count != 1 else ''}, term {view.term}, {key}"
        case Role.CLIENT if view.master is not None:
            return f"Client of {view.master.name}, term {view.term}, {key}"
        case _:
            return f"{str(view.role).capitalize()}, {key}"


def _master(master: Member, address: str | None) -> dict[str, Any]:
    return {"id": master.id, "name": master.name, "address": address, "port": master.port}


def _member(member: Member, group: Group | None, identity: str | None) -> dict[str, Any]:
    is_master = group is not None and member.id == group.master
    return {
        "id": member.id,
        "name": member.name,
        "role": str(Role.MASTER if is_master else Role.CLIENT),
        "address": member.addresses[0] if member.addresses else None,
        "sender_id": member.sender_id,
        "priority": member.priority,
        "eligible": member.eligible,
        "acked_epoch": member.acked_epoch,
        "version": member.version,
        "speaks": list(member.speaks),
        "psk_identity": None if identity is None else without_keys(identity),
    }
