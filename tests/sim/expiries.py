"""Checks that a node that has had no master for `expires_after` does not let its session managers send.

The time without a master goes on while the daemon is down, if it had no master before. It ends with a start without
persisted state. Such a daemon has no key, so it sends nothing to a session manager that has keys of an earlier one.
"""

from pskkey.core.actions import Action
from pskkey.core.notices import MasterJoined, RoleChanged
from pskkey.model import Role
from tests.sim.host import Broken, Host
from tests.sim.managers import RECONNECT_WITHIN, Managers
from tests.sim.world import World

LOOK_EVERY = 0.25
"""Seconds."""

SLACK = 1.0
"""Seconds by which the check is later than the expiry: a session may end unnoticed, and clocks differ."""


class Expiries:
    """Watches all hosts of a world."""

    def __init__(self, world: World, managers: Managers) -> None:
        self._world = world
        self._managers = managers
        self._alone: dict[Host, tuple[int, float]] = {}
        """By host: how often it had started without persisted state, and since when it has had no master."""
        self._awake_at: dict[Host, float] = {}
        """When the daemon of a host was last seen to be down or paused."""
        world.at(LOOK_EVERY, self._look)
        world.actions.append(self._note_master)
        world.ending.append(self._note_end)

    def _note_master(self, host: Host, action: Action) -> None:
        """End the time without a master, which may begin again before the next look."""
        if isinstance(action, MasterJoined) or (isinstance(action, RoleChanged) and action.role is Role.MASTER):
            self._alone.pop(host, None)

    def _note_end(self, host: Host) -> None:
        """End the time without a master if a daemon had one, or was master, when it was killed.

        It may have been killed before it reported that.
        """
        if self._world.master_of(host) is not None:
            self._alone.pop(host, None)

    def _look(self) -> None:
        world = self._world
        world.at(world.now + LOOK_EVERY, self._look)
        for host in self._managers.on:
            if host.node is None or host.is_paused:
                self._awake_at[host] = world.now
            elif not host.timing.expires_after or world.master_of(host) is not None:
                self._alone.pop(host, None)
            else:
                self._check(host)

    def _check(self, host: Host) -> None:
        now, period = self._world.now, host.timing.expires_after
        starts, since = self._alone.get(host, (host.fresh_starts, now))
        if starts != host.fresh_starts:
            starts, since = host.fresh_starts, now
        self._alone[host] = starts, since
        is_settled = now >= self._awake_at.get(host, 0.0) + RECONNECT_WITHIN + SLACK
        if not is_settled or now < since + period + SLACK:
            return
        for manager in self._managers.on[host]:
            is_of_this_state = manager.fresh_starts == host.fresh_starts
            if manager.sends is not None and is_of_this_state and not manager.lag:
                raise Broken("G24", f"{host.name} has had no master since {since:.3f}, and its session manager sends")
