"""All attacks, in one table: the kind of attacker, its actions, and the bounds that a group keeps meanwhile."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from pskkey.wire.advert import instance_name
from tests.hostile.packets import MDNS_ATTACKS, invented_adverts, replayed
from tests.hostile.stage import GROUP_NAME, Stage

CONNECTIONS_A_SECOND: Final = 200.0
"""Connections that a stranger opens, to all key servers together."""
REPLAY_RATE: Final = 20_000.0
"""Bytes per second of the slow replay: each advert some ten times a second, which is below every rate limit."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds for the actions that an operator waits for, and the costs of one daemon beyond those of a calm group."""

    boot: float = 6.0
    newcomer: float = 3.0
    keys: float = 1.0
    rekey: float = 2.5
    failover: float = 2.5
    loop_away_ms: float = 50.0
    memory_mib: float = 16.0
    lines_a_minute: float = 60.0


MDNS_BOUNDS: Final = Bounds(failover=2.0)
REPLAY_BOUNDS: Final = Bounds(boot=4.0)


@dataclass(frozen=True, slots=True)
class Attack:
    """`begin` records the adverts that it needs and starts the attacker. The group is started after it."""

    kind: str
    begin: Callable[[Stage], Awaitable[None]]
    bounds: Bounds = Bounds()


async def _nothing(_stage: Stage) -> None:
    """Do nothing: the other attacks are compared with this calm group."""


async def _mdns(name: str, stage: Stage) -> None:
    make, sources = MDNS_ATTACKS[name]
    stage.flood(make(stage.names), sources)


async def _connections(kind: str, stage: Stage) -> None:
    stage.connect(kind, CONNECTIONS_A_SECOND)


async def _replay_former_masters(slowly: bool, stage: Stage) -> None:
    """Send the adverts of masters that were switched off, each after a forged goodbye."""
    adverts = {instance_name(daemon.id): await stage.record(daemon, "m") for daemon in stage.former}
    stage.switch_off(stage.former)
    stage.flood(replayed(adverts, with_goodbyes=True), rate=REPLAY_RATE if slowly else None)


async def _replay_members(role: str, stage: Stage) -> None:
    """Send adverts of each member from a time when it was alone, as a listener or as a master."""
    adverts = {instance_name(daemon.id): await stage.record(daemon, role) for daemon in stage.members.daemons}
    stage.flood(replayed(adverts, with_goodbyes=role == "l"))


async def _insider(kind: str, stage: Stage) -> None:
    stage.betray(kind)


async def _invent_adverts(stage: Stage) -> None:
    stage.flood(invented_adverts(stage.psk.key, GROUP_NAME, stage.host.ipv4))


async def _local_user(kind: str, stage: Stage) -> None:
    stage.misuse(kind)


ATTACKS: Final[Mapping[str, Attack]] = MappingProxyType(
    {
        "none": Attack("calm", _nothing),
        **{name: Attack("mdns", partial(_mdns, name), MDNS_BOUNDS) for name in MDNS_ATTACKS},
        **{name: Attack("tls", partial(_connections, name)) for name in ("half-open", "wrong-psk", "tls-garbage")},
        "replayed-former-masters": Attack("replay", partial(_replay_former_masters, True), REPLAY_BOUNDS),
        "replayed-former-masters-fast": Attack("replay", partial(_replay_former_masters, False)),
        "replayed-listeners": Attack("replay", partial(_replay_members, "l")),
        "replayed-members": Attack("replay", partial(_replay_members, "m")),
        **{name: Attack("insider", partial(_insider, name)) for name in ("heartbeats", "joins")},
        "invented-adverts": Attack("insider", _invent_adverts),
        **{
            name: Attack("local-user", partial(_local_user, name))
            for name in ("keys-flood", "keys-requests", "keys-places", "keys-rekeys", "control-flood", "control-places")
        },
    }
)

CALM: Final = "none"
"""The run without an attack. It is done first; the costs of the attacks are those beyond its costs."""

KINDS: Final = tuple(dict.fromkeys(attack.kind for name, attack in ATTACKS.items() if name != CALM))


def chosen(names: list[str]) -> list[str]:
    """Return the attacks of these names or kinds, all without names; never CALM."""
    wanted = [name for name, attack in ATTACKS.items() if not names or name in names or attack.kind in names]
    return [name for name in wanted if name != CALM]
