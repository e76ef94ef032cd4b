"""The commands of an administrator. Each one checks the present state of the node, then emits an event for the core.

A command returns when the core has the request, not when the effect is complete. `status` shows the effect.
"""

import shlex
from collections.abc import Callable
from typing import Any, Final

from pskkey.adapters.local.control_socket import Command, CommandRefused, InvalidParameter
from pskkey.core.events import Event, RekeyRequested, SwitchoverRequested
from pskkey.core.node import Node
from pskkey.model import Group, KeyNewReason, Member, Role, count_distinct_digits

MAX_LISTED: Final = 4
"""Members that a refusal lists."""


class Commands:
    """The commands of one node. `emit` passes events to the core."""

    def __init__(self, node: Node, emit: Callable[[Event], None]) -> None:
        self._node = node
        self._emit = emit

    def table(self) -> dict[str, Command]:
        """Return the commands by their names in io.pskkey.Control."""
        return {"Rekey": self.rekey, "Switchover": self.switch_over}

    def rekey(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Make a new key. A client forwards the request to its master."""
        for name in parameters:
            raise InvalidParameter(name)
        if self._node.view().master is None:
            raise CommandRefused("NotPossible", {"reason": "there is no master yet that could make a new key"})
        self._emit(RekeyRequested(KeyNewReason.OPERATOR))
        return {}

    def switch_over(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Hand over the mastership to the member with this id (or its start) or name, else to the first successor."""
        wanted = parameters.get("node")
        if not parameters.keys() <= {"node"} or not isinstance(wanted, str | None):
            raise InvalidParameter("node")
        view, group = self._node.view(), self._node.group()
        if view.role is not Role.MASTER or group is None:
            raise CommandRefused("NotPossible", {"reason": self._explain_refusal(view.master, wanted)})
        successor = _first_successor(group) if wanted is None else _find(group, wanted)
        if successor is None:
            raise CommandRefused("NotPossible", {"reason": "no other member is eligible to be master"})
        if not successor.eligible:
            raise CommandRefused("NotPossible", {"reason": f"{successor.name} is not eligible ([node] eligible there)"})
        self._emit(SwitchoverRequested(successor.id))
        return {}

    def _explain_refusal(self, master: Member | None, wanted: str | None) -> str:
        if master is None:
            return "this node is not the master, and knows no master now; see pskkeyctl status"
        command = "pskkeyctl switchover" if wanted is None else f"pskkeyctl switchover {shlex.quote(wanted)}"
        at = f" at {master.addresses[0]}" if master.addresses else ""
        group = self._node.group()
        known = {master.id} | ({member.id for member in group.members} if group else set())
        shown = master.id[: count_distinct_digits(known)]
        return f"only the master can hand over, and that is {master.name} ({shown}){at}: run `{command}` there"


def _first_successor(group: Group) -> Member | None:
    """Return the first member of the succession; None when no other member may be master."""
    return next((m for m in group.members if m.id in group.succession[:1] and m.id != group.master), None)


def _find(group: Group, wanted: str) -> Member:
    """Return the member with this id, or else the only one with this name or this beginning of its id."""
    others = [member for member in group.members if member.id != group.master]
    found = [member for member in others if member.id == wanted] or [
        member for member in others if member.name == wanted or (wanted and member.id.startswith(wanted))
    ]
    if not found:
        raise CommandRefused("NoSuchNode", {"node": wanted})
    if len(found) > 1:
        digits = count_distinct_digits(member.id for member in group.members)
        listed = ", ".join(f"{member.name} ({member.id[:digits]})" for member in found[:MAX_LISTED])
        more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
        reason = f"{wanted} is ambiguous: it fits {listed}{more}; give more digits of the id"
        raise CommandRefused("NotPossible", {"reason": reason})
    return found[0]
