"""The configuration of a run. DEFAULT_SHARE of the seeds keep all defaults.

The other seeds vary each of these with its own probability: the timings, `preempt`, the suite, the periodic rekey, the
rekey after a departure, the expiry of keys, and the number of addresses of a node. A variation lists choices, and each
node takes one of them. So nodes have different settings if there are several choices. The configuration allows all
choices.

The random generator is not the world's, so a run with the defaults stays the same if a further setting is varied.
"""

from dataclasses import dataclass, replace
from random import Random

from pskkey.core.settings import Timing
from pskkey.model import Suite
from tests.sim.bounds import Bounds

DEFAULT_SHARE = 0.6
"""The share of the seeds that vary nothing."""

HASTY_SHARE = 0.15
"""The share of the varied timings that may be too short to keep every datagram."""

DEAD_AFTER = (0.6, 1.0, 1.5, 1.5, 3.0, 5.0)
HEARTBEATS = (2, 3, 3, 4)
"""Heartbeats in `dead_after`."""
DISCOVERY_WINDOWS = (0.2, 0.5, 1.0, 1.0, 2.0, 4.0)
CLAIM_STEPS = (0.05, 0.1, 0.3, 0.3, 1.0)
ACTIVATION_DEADLINES = (1.0, 2.0, 5.0, 5.0, 10.0, 20.0)
RETIREMENTS = (2.0, 5.0, 10.0, 10.0, 25.0, 40.0)
REKEY_INTERVALS = (12.0, 15.0, 20.0)
"""Seconds. Even the shortest lets all session managers, the slow ones too, have the same keys between two rekeys."""
DEPARTURE_SPACINGS = (12.0, 15.0, 20.0)
"""Seconds, for the same reason. With the default of a minute, a run would seldom have such a rekey."""
EXPIRIES = (2.0, 4.0, 8.0)
"""Seconds."""
CHACHA, NULL = Suite.PSK_CHACHA20_POLY1305, Suite.WDM_WITH_NULL_SHA256
SUITES: tuple[tuple[Suite, ...], ...] = ((NULL,), (CHACHA, NULL), (CHACHA, CHACHA, NULL))


@dataclass(frozen=True)
class Variation:
    """The choices of a run. `changes`: operators and networks choose again while it runs."""

    timings: tuple[Timing, ...] = (Timing(),)
    preempts: tuple[bool, ...] = (False,)
    suites: tuple[Suite, ...] = (CHACHA,)
    most_addresses: int = 1
    changes: bool = False

    @property
    def is_default(self) -> bool:
        """Whether nothing is varied."""
        return self == _DEFAULT

    @property
    def bounds(self) -> Bounds:
        """The bounds that follow, for any choice of each node."""
        return Bounds.of(self.timings, preempts=any(self.preempts))

    @property
    def rekeys_by_itself_within(self) -> float | None:
        """Seconds within which a master renews the key by itself if it has a reason; None: it does not in a run."""
        intervals = [one.rekey_interval for one in self.timings if one.rekey_interval in REKEY_INTERVALS]
        return max(intervals + [one.departure_spacing for one in self.timings if one.rekey_on_leave], default=None)


_DEFAULT = Variation()


def draw(seed: int, *, always: bool = False) -> Variation:
    """Return the variation of a seed. `always`: also if the seed would keep the defaults."""
    rng = Random(f"variation of {seed}")
    if rng.random() < DEFAULT_SHARE and not always:
        return _DEFAULT
    timings: tuple[Timing, ...] = (Timing(),)
    if rng.random() < 0.7:
        timings = tuple(_timing(rng) for _ in range(rng.choice((1, 1, 2, 3))))
        if rng.random() >= HASTY_SHARE:
            timings = _with_lasting_keys(timings)
    if rng.random() < 0.4:
        interval = rng.choice(REKEY_INTERVALS)
        timings = tuple(replace(timing, rekey_interval=interval) for timing in timings)
    if rng.random() < 0.4:
        spacing = rng.choice(DEPARTURE_SPACINGS)
        timings = tuple(replace(timing, rekey_on_leave=True, departure_spacing=spacing) for timing in timings)
    if rng.random() < 0.3:
        period = rng.choice(EXPIRIES)
        timings = tuple(replace(timing, expires_after=period) for timing in timings)
    return Variation(
        timings=timings,
        preempts=rng.choice(((False,), (False,), (True,), (False, True))),
        suites=rng.choice(SUITES) if rng.random() < 0.4 else (CHACHA,),
        most_addresses=rng.choice((1, 1, 2, 3)),
        changes=rng.random() < 0.5,
    )


def _timing(rng: Random) -> Timing:
    dead_after = rng.choice(DEAD_AFTER)
    return Timing(
        discovery_window=rng.choice(DISCOVERY_WINDOWS),
        claim_step=rng.choice(CLAIM_STEPS),
        heartbeat_interval=dead_after / rng.choice(HEARTBEATS),
        dead_after=dead_after,
        activation_deadline=rng.choice(ACTIVATION_DEADLINES),
        retire_after=rng.choice(RETIREMENTS),
    )


def _with_lasting_keys(timings: tuple[Timing, ...]) -> tuple[Timing, ...]:
    """Return the timings with keys that last so long that no datagram is lost."""
    patience = max(timing.takeover_patience for timing in timings)
    deadlines = [_at_least(patience, timing.activation_deadline, ACTIVATION_DEADLINES) for timing in timings]
    in_use = max(deadlines) + 2 * max(timing.rekey_spacing for timing in timings)
    return tuple(
        replace(timing, activation_deadline=deadline, retire_after=_at_least(in_use, timing.retire_after, RETIREMENTS))
        for timing, deadline in zip(timings, deadlines, strict=True)
    )


def _at_least(least: float, drawn: float, choices: tuple[float, ...]) -> float:
    return max(drawn, min(choice for choice in choices if choice >= least))
