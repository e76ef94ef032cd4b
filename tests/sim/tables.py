"""A node does not grow: it always holds a bounded number of objects for each node of its world."""

import gc
import types
from collections import deque

from tests.sim.host import Broken, Host
from tests.sim.world import World

OBJECTS_A_NODE = 500
"""The most objects that a node may hold by itself, after any run."""

OBJECTS_A_PEER = 40
"""The most further objects for each host and session manager that there ever was."""

_SHARED = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType, property)


def held_by(host: Host) -> int:
    """Return how many objects can be reached from a node."""
    seen: set[int] = set()
    queue: deque[object] = deque([host.node])
    while queue:
        one = queue.popleft()
        if id(one) in seen or isinstance(one, _SHARED):
            continue
        seen.add(id(one))
        queue.extend(gc.get_referents(one))
    return len(seen)


def check_tables(world: World, processes: int, hosts: list[Host] | None = None) -> None:
    """Check that no node has grown during the run. `processes`: how many session managers have run in all.

    `hosts`: the nodes to check; None: all.
    """
    limit = OBJECTS_A_NODE + OBJECTS_A_PEER * (len(world.hosts) + processes)
    for host in world.hosts if hosts is None else hosts:
        if host.node is not None and (held := held_by(host)) > limit:
            raise Broken("G21", f"{host.name} holds {held} objects, more than {limit}")
