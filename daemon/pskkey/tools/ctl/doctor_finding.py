"""The findings of `pskkeyctl doctor`: one sentence each, for a person or for a program."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pskkey.tools.ctl.status_view import Painter, safe

SCHEMA: Final = 1

MAX_LINES: Final = 64
"""Findings of one check about interfaces or hosts; the others are counted."""


class Finding(NamedTuple):
    """The result of a check. `remedy` is empty if it is `ok`."""

    check: str
    """The name of the check. Programs read it: it never changes."""
    ok: bool
    subject: str
    """The interface, file, host or id of the node that it is about; empty: this node."""
    text: str
    """The fact, as a sentence without a full stop."""
    remedy: str = ""
    """The next step of the operator, as an imperative."""


def render_findings(findings: Sequence[Finding], painter: Painter) -> list[str]:
    """Return a line for each finding, with its mark at the start."""
    return [
        f"{painter.good('ok') if one.ok else painter.warning('!!')}  {safe(one.text)}"
        + (f"; {safe(one.remedy)}" if one.remedy else "")
        for one in findings
    ]


def encode_findings(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as the values of schema 1. Fields may be added, never renamed."""
    return {"schema": SCHEMA, "checks": [one._asdict() for one in findings]}


def shorten(findings: Sequence[Finding], what: str) -> list[Finding]:
    """Return the findings that are not ok, then the others, MAX_LINES in all, and one that counts the rest."""
    ordered = sorted(findings, key=lambda one: one.ok)
    rest = ordered[MAX_LINES:]
    if not rest:
        return list(findings)
    check, is_ok = rest[0].check, all(one.ok for one in rest)
    counted = Finding(check, is_ok, "", f"and {len(rest)} more {what}", "" if is_ok else "see those above")
    return [*ordered[:MAX_LINES], counted]
