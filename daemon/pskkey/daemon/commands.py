"""What an administrator can have the daemon do: checked against the node as it is, then an event for the core.

Each returns when the request has been handed to the core, not when its effect is complete: `status` tells that.
"""

import shlex
from collections.abc import Callable
from typing import Any

from pskkey.adapters.local.control_socket import Command, CommandRefused, InvalidParameter
from pskkey.core.events import Event, RekeyRequested, SwitchoverRequested
from pskkey.core.node import Node
from pskkey.model import Group, KeyNewReason, Member, Role


class Commands:
    """The commands of one node. `emit` takes the events."""

    def __init__(self, node: Node, emit: Callable[[Event], None]) -> None:
        self._node = node
        self._emit = emit

    def table(self) -> dict[str, Command]:
        """Return the commands by their names in io.pskkey.Control."""
        return {"Rekey": self.rekey, "Switchover": self.switch_over}

    def rekey(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Roll to a fresh key; a client asks its master to."""
        for name in parameters:
            raise InvalidParameter(name)
        if self._node.view().master is None:
            raise CommandRefused("NotPossible", {"reason": "there is no master yet that could roll the key"})
        self._emit(RekeyRequested(KeyNewReason.OPERATOR))
        return {}

    def switch_over(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Hand the master's part to the member with this id (or the start of it) or name, or to the next in line."""
        wanted = parameters.get("node")
        if not parameters.keys() <= {"node"} or not isinstance(wanted, str | None):
            raise InvalidParameter("node")
        view, group = self._node.view(), self._node.group()
        if view.role is not Role.MASTER or group is None:
            raise CommandRefused("NotPossible", {"reason": self._who_can(view.master, wanted)})
        successor = _next_in_line(group) if wanted is None else _find(group, wanted)
        if successor is None:
            raise CommandRefused("NotPossible", {"reason": "no other member is eligible to be master"})
        if not successor.eligible:
            raise CommandRefused("NotPossible", {"reason": f"{successor.name} is not eligible ([node] eligible there)"})
        self._emit(SwitchoverRequested(successor.id))
        return {}

    def _who_can(self, master: Member | None, wanted: str | None) -> str:
        if master is None:
            return "this node is not the master, and knows of none now; see pskkeyctl status"
        command = "pskkeyctl switchover" if wanted is None else f"pskkeyctl switchover {shlex.quote(wanted)}"
        at = f" at {master.addresses[0]}" if master.addresses else ""
        return f"only the master can hand over, and that is {master.name} ({master.id[:8]}){at}: run `{command}` there"


def _next_in_line(group: Group) -> Member | None:
    """Return the first member of the succession, None when nobody else may be the master."""
    return next((m for m in group.members if m.id in group.succession[:1] and m.id != group.master), None)


def _find(group: Group, wanted: str) -> Member:
    found = [
        m for m in group.members if m.id != group.master and (m.name == wanted or (wanted and m.id.startswith(wanted)))
    ]
    if len(found) != 1:
        raise CommandRefused("NoSuchNode", {"node": wanted})
    return found[0]
