"""The faults: what can go wrong with one host, its network, its clock, its session managers and its operator."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pskkey.core.events import (
    AddressesChanged,
    RekeyRequested,
    StopRequested,
    SwitchoverRequested,
    Timeout,
)
from pskkey.model import KeyNewReason
from tests.sim.host import Host
from tests.sim.managers import Managers
from tests.sim.operators import settings_changed
from tests.sim.world import World

type Fault = Callable[[Host], None]


class Faults:
    """Lets one thing go wrong at a time, each time with a host that was drawn.

    `end`: when all must be over; `others`: what can go wrong beside the faults that are here.
    """

    def __init__(
        self, world: World, managers: Managers, hosts: list[Host], end: float, others: tuple[Fault, ...] = ()
    ) -> None:
        self._world = world
        self._managers = managers
        self._hosts = hosts
        self._end = end
        self._changes = 0
        common: tuple[Fault, ...] = (self.crash, self.restart, self.pause, self.split, self.isolate, self.one_way)
        common += (self.dies_in_a_step, self.heal, self.heal, self.rekey, self.switch_over, self.replace_manager)
        rare: tuple[Fault, ...] = (
            self.power_off,
            self.forget,
            self.stop,
            self.sleep_long,
            self.clock_leaps,
            self.change,
        )
        rare += (self.three_ways, self.replay, self.ring_early, self.break_before_keys)
        rare += (self.overlapping_manager, self.reconnect_manager, self.sequence_high_water, self.heal)
        self._kinds = (*common, *common, *rare, *others)

    def strike(self) -> None:
        """Let something go wrong; now and then a key has just begun to roll."""
        rng = self._world.random
        fault, host = rng.choice(self._kinds), rng.choice(self._hosts)
        if rng.random() < 0.15:
            self.rekey(rng.choice(self._hosts))
            self._world.at(min(self._world.now + rng.uniform(0.0, 0.15), self._end), partial(fault, host))
        else:
            fault(host)

    def mend(self, *, start_again: Callable[[Host], bool]) -> None:
        """End every fault. Of the hosts that are down, those come back that `start_again` says."""
        world = self._world
        world.note(self._hosts[0], "--- everything is mended ---")
        world.reach.heal()
        world.dies_before.clear()
        world.streams.breaks_before_keys.clear()
        world.conditions.advert_loss = 0.0
        for host in self._hosts:
            if host.paused:
                world.wake(host)
            if host.node is None and start_again(host):
                world.start(host)

    # --- processes and devices ----------------------------------------------------------------------------------

    def crash(self, host: Host) -> None:
        """Kill the daemon; systemd starts it again, or not before the end."""
        if self._runs(host):
            self._world.crash(host)
            if self._world.random.random() < 0.5:
                self._start_later(host, self._world.random.choice((0.1, 0.1, 0.5, 2.0)))

    def restart(self, host: Host) -> None:
        """Kill the daemon and start it at once, or start it if it is down."""
        if self._runs(host):
            self._world.crash(host)
        if host.node is None:
            self._world.start(host)

    def forget(self, host: Host) -> None:
        """Restart the daemon without what the last one left, while its session managers live on."""
        if self._runs(host):
            self._world.crash(host)
            self._world.start(host, forgetful=True)

    def power_off(self, host: Host) -> None:
        """Cut the power of a device; it boots again, or stays away with its advert in all caches."""
        if host.node is not None:
            self._world.power_off(host)
            if self._world.random.random() < 0.6:
                self._start_later(host, self._world.random.uniform(0.5, 8.0))

    def stop(self, host: Host) -> None:
        """Stop the daemon in good order."""
        if self._runs(host):
            self._world.note(host, "is told to stop")
            self._world.handle(host, StopRequested())
            if self._world.random.random() < 0.7:
                self._start_later(host, self._world.random.uniform(0.05, 3.0))

    def pause(self, host: Host) -> None:
        """Hold up the daemon for a while."""
        self._pause(host, self._world.random.choice((0.2, 1.0, 2.0, 5.0, 15.0)))

    def sleep_long(self, host: Host) -> None:
        """Hold up the daemon for up to 40 seconds."""
        self._pause(host, self._world.random.uniform(15.0, 40.0))

    def clock_leaps(self, host: Host) -> None:
        """Let the clock be minutes ahead at once."""
        if self._runs(host):
            self._world.leap(host, self._world.random.uniform(60.0, 600.0))

    def dies_in_a_step(self, host: Host) -> None:
        """Let the process die in the middle of a step: before, between or after its actions."""
        if self._runs(host):
            self._world.dies_before[host] = self._world.random.randrange(5)
            self._start_later(host, self._world.random.choice((0.1, 1.0, 5.0)))

    def ring_early(self, host: Host) -> None:
        """Let the timer ring though nothing is due."""
        self._world.handle(host, Timeout())

    # --- the network --------------------------------------------------------------------------------------------

    def split(self, host: Host) -> None:
        """Part the hosts into two sets."""
        self._part(host, 2)

    def three_ways(self, host: Host) -> None:
        """Part the hosts into three sets."""
        self._part(host, 3)

    def isolate(self, host: Host) -> None:
        """Part one host from all others."""
        self._world.note(host, "is isolated")
        self._world.reach.split([host])

    def one_way(self, host: Host) -> None:
        """Let one host not be heard by another any more."""
        other = self._world.random.choice(self._hosts)
        if other is not host:
            self._world.note(host, f"is no longer heard by {other.name}")
            self._world.reach.sever(host, other)

    def heal(self, host: Host) -> None:
        """Mend every cut."""
        self._world.note(host, "and all others hear each other again")
        self._world.reach.heal()

    def break_before_keys(self, host: Host) -> None:
        """Let a connection break between a GROUP and the KEY_STATE after it."""
        self._world.streams.breaks_before_keys.add(host)

    def replay(self, host: Host) -> None:
        """Let a host hear some old adverts again, its own among them."""
        self._world.note(host, "hears old adverts again")
        for _ in range(self._world.random.randrange(1, 5)):
            self._world.adverts.replay(host)

    # --- session managers and operators -------------------------------------------------------------------------

    def replace_manager(self, host: Host) -> None:
        """Let the session managers of a host end and others begin."""
        self._managers.replace(host)

    def overlapping_manager(self, host: Host) -> None:
        """Let others begin before they end."""
        self._managers.replace(host, self._world.random.uniform(0.01, 3.0))

    def reconnect_manager(self, host: Host) -> None:
        """Let them lose their connection and come again."""
        self._managers.reconnect(host)

    def sequence_high_water(self, host: Host) -> None:
        """Let a session manager ask for a new key."""
        self._managers.ask_for_new_key(host)

    def rekey(self, host: Host) -> None:
        """Let an operator roll the key."""
        self._world.note(host, "is told to roll the key")
        self._world.handle(host, RekeyRequested(KeyNewReason.OPERATOR))

    def switch_over(self, host: Host) -> None:
        """Let an operator hand over to whoever is next, or to somebody by name."""
        rng = self._world.random
        successor = rng.choice(self._hosts).member.id if rng.random() < 0.3 else None
        self._world.note(host, "is told to hand over")
        self._world.handle(host, SwitchoverRequested(successor))

    def change(self, host: Host) -> None:
        """Let an operator change a node's priority or eligibility, or its network the address."""
        rng = self._world.random
        self._changes += 1
        member = host.member
        what = rng.choice(("priority", "eligibility", "address"))
        if what == "priority":
            member = replace(member, priority=rng.choice((50, 100, 200)))
        elif what == "address":
            member = replace(member, addresses=(f"10.9.{self._changes // 250}.{self._changes % 250 + 1}",))
        else:
            member = replace(member, eligible=not member.eligible)
        host.member = member
        self._world.note(host, f"has another {what}")
        if what == "address":
            self._world.handle(host, AddressesChanged(member.addresses))
        else:
            self._world.handle(host, settings_changed(host))

    # ------------------------------------------------------------------------------------------------------------

    def _runs(self, host: Host) -> bool:
        return host.node is not None and not host.paused

    def _start_later(self, host: Host, delay: float) -> None:
        def start() -> None:
            if host.node is None:
                self._world.start(host)

        self._world.at(min(self._world.now + delay, self._end), start)

    def _pause(self, host: Host, length: float) -> None:
        world = self._world
        if self._runs(host):
            world.pause(host)
            world.at(min(world.now + length, self._end), partial(self._wake, host, host.incarnation))

    def _wake(self, host: Host, incarnation: int) -> None:
        if host.incarnation == incarnation and host.paused:
            self._world.wake(host)

    def _part(self, host: Host, parts: int) -> None:
        rng = self._world.random
        sets: list[list[Host]] = [[] for _ in range(parts)]
        for one in self._hosts:
            sets[0 if one is host else rng.randrange(parts)].append(one)
        self._world.note(host, "parts: " + " | ".join(" ".join(h.name for h in one) or "nobody" for one in sets))
        self._world.reach.split(*sets)
