"""The faults of one host: of its processes, its clock, its network, its session managers and its operator."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pskkey.core.events import (
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


BARRIERS_OFTEN = 6
"""How often each barrier is in the list of faults."""


class Faults:
    """Causes one fault at a time, each at a random host.

    `end`: when all faults must be over; `others`: more faults, beside those of this class.
    """

    def __init__(
        self,
        world: World,
        managers: Managers,
        hosts: list[Host],
        end: float,
        others: tuple[Fault, ...] = (),
        *,
        with_barriers: bool = False,
    ) -> None:
        """`others` are further faults. `with_barriers`: some ways let no TCP pass, or only small messages."""
        self._world = world
        self._managers = managers
        self._hosts = hosts
        self._end = end
        self._changes = 0
        common: tuple[Fault, ...] = (self.crash, self.restart, self.pause, self.split, self.isolate, self.cut_one_way)
        common += (self.kill_in_a_step, self.heal, self.heal, self.rekey, self.switch_over, self.replace_manager)
        rare: tuple[Fault, ...] = (
            self.power_off,
            self.forget,
            self.stop,
            self.pause_long,
            self.advance_clock,
            self.change_member,
        )
        rare += (self.split_three_ways, self.replay, self.call_early, self.break_before_keys)
        rare += (self.overlap_managers, self.reconnect_manager, self.ask_for_new_key, self.heal)
        barriers = (self.bar_tcp, self.narrow) * BARRIERS_OFTEN if with_barriers else ()
        self._kinds = (*common, *common, *rare, *others, *barriers)

    def cause_fault(self) -> None:
        """Cause a random fault at a random host, now and then just after the beginning of a rekey."""
        rng = self._world.random
        fault, host = rng.choice(self._kinds), rng.choice(self._hosts)
        if rng.random() < 0.15:
            self.rekey(rng.choice(self._hosts))
            self._world.at(min(self._world.now + rng.uniform(0.0, 0.15), self._end), partial(fault, host))
        else:
            fault(host)

    def mend(self, *, start_again: Callable[[Host], bool]) -> None:
        """End every fault. A host that is down starts if `start_again` returns True for it."""
        world = self._world
        world.note(self._hosts[0], "--- everything is mended ---")
        world.reach.heal()
        world.dies_before.clear()
        world.streams.breaks_before_keys.clear()
        world.conditions.advert_loss = 0.0
        for host in self._hosts:
            if host.is_paused:
                world.wake(host)
            if host.node is None and start_again(host):
                world.start(host)

    # --- processes and devices ----------------------------------------------------------------------------------

    def crash(self, host: Host) -> None:
        """Kill the daemon. systemd starts it again soon, or not before the end."""
        if self._is_running(host):
            self._world.crash(host)
            if self._world.random.random() < 0.5:
                self._start_later(host, self._world.random.choice((0.1, 0.1, 0.5, 2.0)))

    def restart(self, host: Host) -> None:
        """Kill the daemon and start it at once, or start it if it is down."""
        if self._is_running(host):
            self._world.crash(host)
        if host.node is None:
            self._world.start(host)

    def forget(self, host: Host) -> None:
        """Restart the daemon without its persisted state, while its session managers live on."""
        if self._is_running(host):
            self._world.crash(host)
            self._world.start(host, forgetful=True)

    def power_off(self, host: Host) -> None:
        """Cut the power of a device. It boots again, or stays away while its advert stays in all caches."""
        if host.node is not None:
            self._world.power_off(host)
            if self._world.random.random() < 0.6:
                self._start_later(host, self._world.random.uniform(0.5, 8.0))

    def stop(self, host: Host) -> None:
        """Stop the daemon in good order."""
        if self._is_running(host):
            self._world.note(host, "is asked to stop")
            self._world.handle(host, StopRequested())
            if self._world.random.random() < 0.7:
                self._start_later(host, self._world.random.uniform(0.05, 3.0))

    def pause(self, host: Host) -> None:
        """Pause the daemon for a while."""
        self._pause(host, self._world.random.choice((0.2, 1.0, 2.0, 5.0, 15.0)))

    def pause_long(self, host: Host) -> None:
        """Pause the daemon for 15 to 40 seconds."""
        self._pause(host, self._world.random.uniform(15.0, 40.0))

    def advance_clock(self, host: Host) -> None:
        """Set the clock minutes ahead at once."""
        if self._is_running(host):
            self._world.leap(host, self._world.random.uniform(60.0, 600.0))

    def kill_in_a_step(self, host: Host) -> None:
        """Kill the process in the middle of its next step: before, between or after its actions."""
        if self._is_running(host):
            self._world.dies_before[host] = self._world.random.randrange(5)
            self._start_later(host, self._world.random.choice((0.1, 1.0, 5.0)))

    def call_early(self, host: Host) -> None:
        """Let the timer expire though nothing is due."""
        self._world.handle(host, Timeout())

    # --- the network --------------------------------------------------------------------------------------------

    def split(self, host: Host) -> None:
        """Split the hosts into two partitions."""
        self._split(host, 2)

    def split_three_ways(self, host: Host) -> None:
        """Split the hosts into three partitions."""
        self._split(host, 3)

    def isolate(self, host: Host) -> None:
        """Cut one host off from all others."""
        self._world.note(host, "is isolated")
        self._world.reach.split([host])

    def cut_one_way(self, host: Host) -> None:
        """Cut the way from one host to another, but not back."""
        other = self._world.random.choice(self._hosts)
        if other is not host:
            self._world.note(host, f"is no longer heard by {other.name}")
            self._world.reach.sever(host, other)

    def bar_tcp(self, host: Host) -> None:
        """Let no TCP pass between two hosts, in one way or both; adverts and datagrams pass."""
        other = self._world.random.choice(self._hosts)
        if other is not host:
            self._world.note(host, f"has no TCP to {other.name}")
            self._world.reach.bar_tcp(host, other)
            if self._world.random.random() < 0.7:
                self._world.reach.bar_tcp(other, host)

    def narrow(self, host: Host) -> None:
        """Let only small messages pass from a host, and perhaps also to it; perhaps not even its handshakes."""
        if self._world.random.random() < 0.5:
            self._world.note(host, "is behind a way for small packets only")
            self._world.reach.narrow(host)
        else:
            self._world.note(host, "sends small packets only")
            self._world.reach.narrow_handshakes(host)

    def heal(self, host: Host) -> None:
        """Mend every cut."""
        self._world.note(host, "and all others hear each other again")
        self._world.reach.heal()

    def break_before_keys(self, host: Host) -> None:
        """Let a connection break between a GROUP and the KEY_STATE after it."""
        self._world.streams.breaks_before_keys.add(host)

    def replay(self, host: Host) -> None:
        """Let a host receive some old adverts again, its own among them."""
        self._world.note(host, "hears old adverts again")
        for _ in range(self._world.random.randrange(1, 5)):
            self._world.adverts.replay(host)

    # --- session managers and operators -------------------------------------------------------------------------

    def replace_manager(self, host: Host) -> None:
        """End the session managers of a host, and start others."""
        self._managers.replace(host)

    def overlap_managers(self, host: Host) -> None:
        """Start other session managers on a host before the old ones end."""
        self._managers.replace(host, self._world.random.uniform(0.01, 3.0))

    def reconnect_manager(self, host: Host) -> None:
        """Break the connections of the session managers of a host. They connect again."""
        self._managers.reconnect(host)

    def ask_for_new_key(self, host: Host) -> None:
        """Let a session manager ask for a new key, because its sequence numbers run out."""
        self._managers.ask_for_new_key(host)

    def rekey(self, host: Host) -> None:
        """Let an operator ask for a new key."""
        self._world.note(host, "is asked for a new key")
        self._world.handle(host, RekeyRequested(KeyNewReason.OPERATOR))

    def switch_over(self, host: Host) -> None:
        """Let an operator ask for a switchover to the best candidate, or to a random node."""
        rng = self._world.random
        successor = rng.choice(self._hosts).member.id if rng.random() < 0.3 else None
        self._world.note(host, "is asked to hand over")
        self._world.handle(host, SwitchoverRequested(successor))

    def change_member(self, host: Host) -> None:
        """Change a node's priority or eligibility, as an operator does, or its address, as a network does."""
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
            self._world.handle(host, host.network)
        else:
            self._world.handle(host, settings_changed(host))

    # ------------------------------------------------------------------------------------------------------------

    def _is_running(self, host: Host) -> bool:
        return host.node is not None and not host.is_paused

    def _start_later(self, host: Host, delay: float) -> None:
        def start() -> None:
            if host.node is None:
                self._world.start(host)

        self._world.at(min(self._world.now + delay, self._end), start)

    def _pause(self, host: Host, length: float) -> None:
        world = self._world
        if self._is_running(host):
            world.pause(host)
            world.at(min(world.now + length, self._end), partial(self._wake, host, host.incarnation))

    def _wake(self, host: Host, incarnation: int) -> None:
        if host.incarnation == incarnation and host.is_paused:
            self._world.wake(host)

    def _split(self, host: Host, parts: int) -> None:
        rng = self._world.random
        sets: list[list[Host]] = [[] for _ in range(parts)]
        for one in self._hosts:
            sets[0 if one is host else rng.randrange(parts)].append(one)
        self._world.note(host, "partitions: " + " | ".join(" ".join(h.name for h in one) or "none" for one in sets))
        self._world.reach.split(*sets)
