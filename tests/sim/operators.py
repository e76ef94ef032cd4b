"""The operators of a group and its networks: their choices for a node, and their changes while it runs."""

from collections.abc import Callable
from dataclasses import replace

from pskkey.core.events import SettingsChanged
from tests.sim.host import Host
from tests.sim.variation import Variation
from tests.sim.world import World

MOST_ADDRESSES = 8
"""The addresses that a node announces at most."""

INSIDE = "192.168."
"""The start of the addresses of networks inside a machine. Another machine may have the same address."""

OFTEN = 3
"""How often each change is in the list of faults."""


def settings_changed(host: Host) -> SettingsChanged:
    """Return the event that carries the present configuration of the host."""
    member = host.member
    return SettingsChanged(
        member.name,
        member.priority,
        member.eligible,
        host.max_members,
        preempt=host.preempt,
        timing=host.timing,
        suite=host.suite,
    )


class Operators:
    """Configures the hosts by the choices of a variation. Each method that changes a running host is a fault."""

    def __init__(self, world: World, variation: Variation) -> None:
        self._world = world
        self._variation = variation
        self._added = 0
        world.bounds = variation.bounds

    @property
    def faults(self) -> tuple[Callable[[Host], None], ...]:
        """The changes while a node runs: about a quarter of all faults, if the variation has choices."""
        variation = self._variation
        if not variation.changes:
            return ()
        faults = [self.change_addresses, self.change_reachability]
        if len(variation.timings) > 1:
            faults += [self.change_timing] * 2
        if len(variation.preempts) > 1:
            faults.append(self.change_preemption)
        if len(variation.suites) > 1:
            faults.append(self.change_suite)
        return tuple(faults * OFTEN)

    def configure(self, host: Host) -> None:
        """Configure a host that has not started yet."""
        if self._variation.is_default:
            return
        rng, variation = self._world.random, self._variation
        host.timing = rng.choice(variation.timings)
        host.preempt = rng.choice(variation.preempts)
        host.suite = rng.choice(variation.suites)
        for _ in range(rng.randrange(variation.most_addresses)):
            self._add_address(host)
            if rng.random() < 0.5:
                host.unreachable.add(rng.choice(host.member.addresses))
                self._keep_one_reachable(host)

    def add_inner_networks(self, host: Host) -> None:
        """Announce addresses of networks inside the machine before the others.

        Each leads nowhere, or to another machine with the same address, or to a node of another group. Some hosts have
        so many that they announce no other.
        """
        rng, world = self._world.random, self._world
        inside = [f"{INSIDE}{number}.{rng.choice((1, 1, 2))}" for number in rng.sample(range(12), rng.randrange(1, 7))]
        host.unreachable |= {address for address in inside if int(address.split(".")[2]) < 4}
        world.streams.addresses_of_strangers |= {address for address in inside if int(address.split(".")[2]) > 9}
        host.prefixes = ("10.0.0.0/16", "fd00::/64")
        if rng.random() < 0.2:
            host.left_out = host.source
            host.member = replace(host.member, addresses=tuple(inside))
        else:
            host.member = replace(host.member, addresses=(*inside, *host.member.addresses)[:MOST_ADDRESSES])

    # --- changes ------------------------------------------------------------------------------------------------

    def change_timing(self, host: Host) -> None:
        """Set other timings."""
        host.timing = self._world.random.choice(self._variation.timings)
        self._apply_change(host, "other timings")

    def change_preemption(self, host: Host) -> None:
        """Turn preemption on or off."""
        host.preempt = self._world.random.choice(self._variation.preempts)
        self._apply_change(host, f"preempt = {host.preempt}")

    def change_suite(self, host: Host) -> None:
        """Configure another suite."""
        host.suite = self._world.random.choice(self._variation.suites)
        self._apply_change(host, f"suite = {host.suite.name}")

    def change_addresses(self, host: Host) -> None:
        """Add or remove an address, and notify the node."""
        rng, addresses = self._world.random, host.member.addresses
        own = [address for address in addresses if not address.startswith(INSIDE)]
        removed = rng.choice(addresses)
        if own != [removed] and len(addresses) > 1 and rng.random() < 0.5:
            host.member = replace(host.member, addresses=tuple(a for a in addresses if a != removed))
            self._keep_one_reachable(host)
        else:
            self._add_address(host)
        self._world.note(host, f"has the addresses {' '.join(host.member.addresses)}")
        self._world.handle(host, host.network)

    def change_reachability(self, host: Host) -> None:
        """Make an address unreachable, or all of them reachable again, and notify nobody."""
        if host.unreachable:
            host.unreachable.clear()
            self._world.note(host, "is reached at all its addresses")
        else:
            host.unreachable.add(self._world.random.choice(host.member.addresses))
            self._keep_one_reachable(host)
            self._world.note(host, f"is not reached at {' '.join(sorted(host.unreachable)) or 'no address'}")

    # ------------------------------------------------------------------------------------------------------------

    def _apply_change(self, host: Host, what: str) -> None:
        self._world.note(host, f"has {what}")
        self._world.handle(host, settings_changed(host))

    def _add_address(self, host: Host) -> None:
        """Insert a new address at a random place among those of a host. Other nodes try them in this order."""
        self._added += 1
        addresses = list(host.member.addresses)[-MOST_ADDRESSES + 1 :]
        addresses.insert(self._world.random.randrange(len(addresses) + 1), f"fd00::{self._added:x}")
        host.member = replace(host.member, addresses=tuple(addresses))

    def _keep_one_reachable(self, host: Host) -> None:
        """Keep a host reachable at one address at least. Without any it would be isolated, which is another fault."""
        host.unreachable &= set(host.member.addresses)
        own = {address for address in host.member.addresses if not address.startswith(INSIDE)}
        if own and own <= host.unreachable:
            host.unreachable.discard(self._world.random.choice(sorted(own)))
