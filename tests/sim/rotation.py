"""The rotation of the PSK of all hosts, by the documented steps: add the new one, use it, remove the old one.

Each step is done on all hosts, in any order, before the next one begins. A host that is down has the new file when it
starts. The rotation waits for a host whose daemon is paused. It may interrupt nothing.
"""

from collections.abc import Callable
from functools import partial
from itertools import count

from tests.sim.host import Broken, Host
from tests.sim.world import World

LOOK_AGAIN = 0.1
"""Seconds until the next look at a host whose daemon is paused."""

RENEWED_WITHIN = 1.0
"""Seconds in which a member of a quiet network has renewed its session."""


class Rotation:
    """An operator who rotates the PSK of all hosts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = count(1)
        self._active = world.hosts[0].psk_file[0]
        self._is_under_way = False

    def rotate_repeatedly(self, end: float) -> None:
        """Rotate again and again, with pauses. A rotation that has begun before `end` is completed."""
        rng = self._world.random

        def next_one() -> None:
            if self._world.now < end:
                spread, pause = rng.uniform(0.0, 1.0), rng.uniform(0.0, 2.0)
                self.rotate_once(spread, pause, lambda: self._after(rng.uniform(0.0, 3.0), next_one))

        self._after(rng.uniform(0.5, end), next_one)

    def rotate_once(self, spread: float, pause: float, then: Callable[[], None] = lambda: None) -> None:
        """Rotate, with `spread` seconds for a step and `pause` seconds after each. Do nothing if one is under way."""
        if self._is_under_way:
            return
        self._is_under_way = True
        old, new = self._active, f"psk{next(self._numbers)}"
        self._active = new
        self._begin_step([(old, new), (new, old), (new,)], spread, pause, then)

    def check_done(self) -> None:
        """Check that the session of each member was opened with the active PSK."""
        if self._is_under_way:
            raise Broken("G22", "the PSK of all hosts could not be rotated")
        for host in self._world.hosts:
            session = None if host.node is None else host.node.view().master_session
            stream = None if session is None else host.streams.get(session)
            if stream is not None and stream.psk != self._active:
                raise Broken("G22", f"{host.name} still has a session that was opened with {stream.psk}")

    def _begin_step(self, steps: list[tuple[str, ...]], spread: float, pause: float, then: Callable[[], None]) -> None:
        if not steps:
            self._is_under_way = False
            then()
            return
        hosts = list(self._world.hosts)
        self._world.random.shuffle(hosts)
        next_step = partial(self._begin_step, steps[1:], spread, pause, then)
        self._give(steps[0], hosts, spread / len(hosts), partial(self._after, pause, next_step))

    def _give(self, file: tuple[str, ...], hosts: list[Host], spacing: float, then: Callable[[], None]) -> None:
        """Give a PSK file to these hosts, one after the other. A paused host comes later, and all wait for it."""
        host, *others = hosts
        if host.is_paused:
            others.append(host)
            spacing = max(spacing, LOOK_AGAIN)
        else:
            host.psk_file = file
            self._world.reload(host)
        if others:
            self._after(spacing, partial(self._give, file, others, spacing, then))
        else:
            then()

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._world.at(self._world.now + seconds, what)
