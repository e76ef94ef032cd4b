"""The check of G24 counts the time without a master as a daemon does that is killed at a bad moment."""

from dataclasses import replace

from pskkey.core.events import Disconnected, Event
from pskkey.core.settings import Timing
from tests.sim.expiries import Expiries
from tests.sim.host import Host
from tests.sim.traffic import Traffic
from tests.sim.world import World


def test_time_begins_anew_if_a_daemon_is_killed_in_the_step_in_which_it_becomes_master() -> None:
    """Seed 9321: it had no time to report that."""
    world = World(1)
    traffic = Traffic(world, calm=True)
    Expiries(world, traffic.managers)
    for _ in range(2):
        world.start(world.add(timing=Timing(expires_after=10.0)))
    world.run_until(5.0)
    master, client = sorted(world.hosts, key=lambda host: world.master_of(host) is not host)

    def kill_when_its_master_does_not_answer(host: Host, event: Event) -> None:
        if host is client and isinstance(event, Disconnected):
            world.dies_before[host] = 0

    world.events.append(kill_when_its_master_does_not_answer)
    world.power_off(master)
    world.run_until(17.0)
    assert client.node is None
    assert client.saved is not None
    assert client.saved.without_master_since is None, "it was master when it was killed"
    client.member = replace(client.member, eligible=False)
    world.start(client)
    world.run_until(25.0)
    (manager,) = traffic.managers.on[client]
    assert manager.sends is not None, "it has had no master for 8 s; before that it was master"
    world.run_until(30.0)
    assert manager.sends is None
