"""One attack beside a group of five: boot, a newcomer, a session manager, a rekey, a master's death."""

import asyncio
import contextlib
import signal
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.hostile.attacker import Sent
from tests.hostile.attacks import Attack
from tests.hostile.gauges import Cost, Gauges, sent_by_hosts
from tests.hostile.stage import Stage
from tests.lab.daemon import Daemon, Refused
from tests.lab.group import Failed, Group, epoch_above, epoch_of
from tests.lab.laboratory import Laboratory
from tests.lab.standstill import Standstill

PATIENCE: Final = 12.0
"""Seconds that an event may take while the attack lasts."""
BEFORE_BOOT: Final = 0.3
"""Seconds for which the attack goes on before the group is started."""
CALM_BEFORE: Final = 0.3
"""Seconds for which the daemons must be one group before a rekey or a failover."""

KEY_WATCH: Final = b"\x01\x02\x00\x01\x00"
KEY_STATE: Final = 3
FRAME: Final = struct.Struct("!BBH")


@dataclass(slots=True)
class Findings:
    """The findings of one attack. Times are seconds from the cause; None: not within PATIENCE, or not tried."""

    boot: float | None = None
    newcomer: float | None = None
    keys: float | None = None
    rekey: float | None = None
    failover: float | None = None
    costs: dict[str, Cost] = field(default_factory=dict)
    """The cost of each daemon, by its name."""
    sent: Sent = field(default_factory=Sent)
    """The figures of the attacker."""
    packets_a_second: float = 0.0
    bytes_a_second: float = 0.0
    """The highest packet rate and byte rate of a host of the group."""
    seconds: float = 0.0
    """The time from the start of the group to the end of the attack."""
    stalled_ms: float = 0.0
    """The longest standstill of this machine itself."""
    troubles: list[str] = field(default_factory=list)


class Siege:
    """One run of one attack."""

    def __init__(self, laboratory: Laboratory, attack: Attack, rate: float, seconds: float) -> None:
        self._laboratory = laboratory
        self._attack = attack
        self._seconds = seconds
        self._stage = Stage(laboratory, rate)
        self._gauges: dict[str, Gauges] = {}
        self.findings = Findings()

    async def run(self) -> Findings:
        """Run the attack. A failure of the group is a finding. Raises Failed when the attack itself fails."""
        standstill = Standstill()
        try:
            await self._attack.begin(self._stage)
            await asyncio.sleep(BEFORE_BOOT)
            before, began = self._traffic(), time.monotonic()
            await self._live()
            self.findings.seconds = time.monotonic() - began
            self._count(before)
            self.findings.sent = self._stage.end_attack()
            watched = {name: one for name, one in self._gauges.items() if name not in self.findings.costs}
            costs = await asyncio.gather(*(one.stop() for one in watched.values()))
            self.findings.costs.update(zip(watched, costs, strict=True))
            self.findings.stalled_ms = await standstill.finish()
        finally:
            standstill.destroy()
            self.destroy()
        return self.findings

    def destroy(self) -> None:
        """End everything that still runs, also after an error."""
        for gauges in self._gauges.values():
            gauges.cancel()
        self._stage.destroy()

    async def _live(self) -> None:
        group, findings = self._stage.members, self.findings
        began = group.start()
        for daemon in group.daemons:
            self._gauges[daemon.name] = Gauges(daemon)
        findings.boot = await self._until("boot", began, group.together(PATIENCE))
        if findings.boot is None:
            return
        newcomer = self._stage.newcomer
        newcomer.start()
        self._gauges[newcomer.name] = Gauges(newcomer)
        larger = Group([*group.daemons, newcomer])
        findings.newcomer = await self._until("newcomer", newcomer.started_at, larger.together(PATIENCE))
        if findings.newcomer is not None:
            group = larger
        await self._try("keys", group, self._fetch_keys)
        with self._noting("staying together"):
            await group.stay_together(self._seconds)
        await self._try("rekey", group, self._rekey)
        await self._try("failover", group, self._kill_master)

    async def _until(self, what: str, since: float, happening: Awaitable[tuple[float, object]]) -> float | None:
        with self._noting(what):
            at, _ = await happening
            return at - since
        return None

    async def _try(self, what: str, group: Group, do: Callable[[Group], Awaitable[float]]) -> None:
        with self._noting(what):
            setattr(self.findings, what, await do(group))

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except (Failed, Refused, OSError, asyncio.IncompleteReadError) as error:
            self.findings.troubles.append(f"{what}: {str(error) or type(error).__name__}")

    async def _fetch_keys(self, group: Group) -> float:
        """Fetch the key state of a session manager of root from each daemon; return the longest time of one."""
        return max(await asyncio.gather(*(_key_state(daemon) for daemon in group.daemons)))

    async def _rekey(self, group: Group) -> float:
        _, statuses = await group.settled(CALM_BEFORE, PATIENCE)
        epoch = max(map(epoch_of, statuses.values()))
        (master,) = group.of(statuses, "master")
        commanded = time.monotonic()
        await master.call("Rekey")
        done, _ = await group.together(PATIENCE, also=epoch_above(epoch))
        return done - commanded

    async def _kill_master(self, group: Group) -> float:
        _, statuses = await group.settled(CALM_BEFORE, PATIENCE)
        (master,) = group.of(statuses, "master")
        self.findings.costs[master.name] = await self._gauges[master.name].stop()
        survivors = Group(daemon for daemon in group.daemons if daemon is not master)
        killed = time.monotonic()
        master.signal(signal.SIGKILL)
        done, _ = await survivors.together(PATIENCE)
        await master.ended()
        return done - killed

    def _traffic(self) -> dict[str, tuple[int, int]]:
        return dict(sent_by_hosts(self._laboratory.hosts, self._stage.member_hosts))

    def _count(self, before: dict[str, tuple[int, int]]) -> None:
        after = self._traffic()
        rates = [
            tuple((now - then) / self.findings.seconds for now, then in zip(after[port], before[port], strict=True))
            for port in before
        ]
        self.findings.packets_a_second = max(packets for packets, _ in rates)
        self.findings.bytes_a_second = max(size for _, size in rates)


async def _key_state(daemon: Daemon) -> float:
    """Return how long a session manager waits for its key state, in seconds. Raises Failed when it gets none."""
    began = time.monotonic()
    why = "no answer"
    while time.monotonic() < began + PATIENCE:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_unix_connection(str(daemon.keys_socket))
                with contextlib.closing(writer):
                    writer.write(KEY_WATCH)
                    _, kind, _ = FRAME.unpack(await reader.readexactly(FRAME.size))
                    if kind == KEY_STATE:
                        return time.monotonic() - began
                    why = f"a packet of type {kind}"
        except (OSError, asyncio.IncompleteReadError) as error:
            why = str(error) or type(error).__name__
        await asyncio.sleep(0.1)
    raise Failed(f"a session manager gets no key state from {daemon.name}: {why}")
