"""The guarantees for the loss of the master of a large group of slow nodes. All faults are reported together."""

from collections.abc import Callable
from textwrap import shorten

from pskkey.core.actions import Action
from pskkey.core.notices import RoleChanged
from pskkey.model import Role
from tests.sim.host import Broken, Host
from tests.sim.processor import Costs
from tests.sim.world import World

MOST_PACKETS = 60
"""Packets that a member receives at most while its master is replaced, for any size of the group."""

MOST_TEXT = 160
"""Characters of the fault of a whole group, which may list all nodes."""


class Succession:
    """Watches a settled group from just before the loss of its master on."""

    def __init__(self, world: World, costs: Costs) -> None:
        self._world = world
        self._costs = costs
        self._began = world.now
        self._terms = {host: host.node.view().term for host in world.hosts if host.node is not None}
        self._received = {host: self._count_received(host) for host in world.hosts}
        self._abandoned = self._count_abandoned()
        self._claims: list[Host] = []
        world.actions.append(self._note_claim)

    def check(self, check_whole: Callable[[], None], most_packets: int = MOST_PACKETS) -> None:
        """Check the succession now, when it must be over. `check_whole` raises Broken if the group is not whole."""
        world = self._world
        passed = world.now - self._began
        faults: list[Broken] = []
        try:
            check_whole()
        except Broken as broken:
            seen = shorten(str(broken), MOST_TEXT)
            faults.append(Broken("G25", f"{passed:.2f} s after the loss of the master, with {self._costs}: {seen}"))
        before = max(self._terms.values())
        terms = {host.node.view().term for host in world.hosts if host.node is not None}
        if terms != {before + 1} or len(self._claims) != 1:
            new_masters = ", ".join(host.name for host in self._claims) or "no node"
            seen = f"{new_masters} became master, the term was {before}, and the terms are {sorted(terms)}"
            faults.append(Broken("G26", seen))
        if abandoned := self._count_abandoned() - self._abandoned:
            faults.append(Broken("G27", f"servers have paid for {abandoned} handshakes that nobody waited for"))
        counts = {host: self._count_received(host) - self._received[host] for host in self._find_members()}
        if counts and (most := max(counts.values())) > most_packets:
            name = next(host.name for host, count in counts.items() if count == most)
            faults.append(Broken("G28", f"{name} has received {most} packets in {passed:.2f} s, not {most_packets}"))
        if faults:
            first = faults[0]
            first.args = ("; ".join(str(fault) for fault in faults),)
            raise first

    def _find_members(self) -> list[Host]:
        """Return the nodes that only join: not the new masters, and not their first successors, which serve others."""
        masters = {host for host in self._world.hosts if self._world.master_of(host) is host}
        groups = [host.node.group() for host in masters if host.node is not None]
        serving = {member for group in groups if group is not None for member in group.succession[:1]}
        hosts = [host for host in self._world.hosts if host.node is not None and host not in masters]
        return [host for host in hosts if host.member.id not in serving and host not in self._claims]

    def _note_claim(self, host: Host, action: Action) -> None:
        if isinstance(action, RoleChanged) and action.role is Role.MASTER:
            self._claims.append(host)

    def _count_abandoned(self) -> int:
        return self._world.streams.dials.abandoned.total()

    def _count_received(self, host: Host) -> int:
        return 0 if host.processor is None else host.processor.received
