"""The place of a scenario: hosts on a switch, a group's pre-shared key, and daemons on those hosts."""

import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from pskkey.config.psk import generate_psk_line
from tests import released
from tests.lab.cgroups import Quotas, quotas
from tests.lab.daemon import PSKKEYD, Tables, environment
from tests.lab.kernel_limits import raised_limits
from tests.lab.logged_group import LoggedGroup
from tests.lab.namespaces import Switch, own_label, switch
from tests.lab.service import Service


class Laboratory:
    """Makes groups of daemons, each daemon on a host of its own. Hosts are made when first needed, and reused."""

    def __init__(self, hosts: Switch, directory: Path, seed: int, nodes: int = 0, slow: Quotas | None = None) -> None:
        self.hosts = hosts
        self._slow = slow
        self._nodes = nodes
        self._directory = directory
        self.random = random.Random(seed)
        """The source of all random choices, so that a seed repeats them."""
        self._groups = 0
        self.psk = directory / "psk"
        self.psk.touch(0o600)
        self.psk.write_text(generate_psk_line("group") + "\n")

    @cached_property
    def released(self) -> Path:
        """The source tree of the last released build."""
        return released.unpack(self._directory / "released")

    def set_full_speed(self) -> None:
        """Let each daemon use the whole processor."""
        if self._slow is not None:
            self._slow.release()

    def set_speed(self) -> None:
        """Hold each daemon to the share of a core that this laboratory has."""
        if self._slow is not None:
            self._slow.hold()

    def patience(self, seconds: float, loading: float) -> float:
        """Return how many seconds all nodes may take for something that few fast ones do within `seconds`.

        `loading`: the seconds of processor time for which a daemon loads; one or all may have to do so.
        """
        share = 1.0 if self._slow is None else self._slow.percent / 100
        return seconds + loading * self._nodes + 2 * loading / share

    def group(self, nodes: int, tables: Tables | None = None) -> LoggedGroup:
        """Return daemons n1, n2, ... that are not started; their ids, and so their ranks, are random.

        `tables` is their configuration without the id and the pre-shared key.
        """
        while len(self.hosts.hosts) < nodes:
            self.hosts.add_host()
        self._groups += 1
        directory = self._directory / str(self._groups)
        directory.mkdir()
        return LoggedGroup(self._daemon(directory, number, tables or {}) for number in range(1, nodes + 1))

    def _daemon(self, directory: Path, number: int, more: Tables) -> Service:
        host = self.hosts.hosts[number - 1]
        own: Tables = {"node": {"id": self.random.randbytes(16).hex()}, "psk": {"file": str(self.psk)}}
        tables = {**more, **own}
        daemon = Service(directory / f"n{number}", tables, host.command)
        if self._slow is not None:
            daemon.confinement = self._slow.enter(daemon.name)
        return daemon


@contextmanager
def laboratory(seed: int, nodes: int = 0, percent: int | None = None) -> Iterator[Laboratory]:
    """Set up an empty laboratory for so many nodes, and take it down at the end. Needs root.

    `percent`: the share of a core that each daemon gets. Raises NoQuotas and LimitsTooLow before anything starts.
    """
    with ExitStack() as stack:
        stack.enter_context(raised_limits(nodes))
        slow = None if percent is None else stack.enter_context(quotas(percent))
        hosts = stack.enter_context(switch())
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{own_label()}-"))
        # Python writes its byte code now, so that this takes no time of a run.
        subprocess.run([PSKKEYD, "--version"], check=True, capture_output=True, env=environment())
        yield Laboratory(hosts, Path(directory), seed, nodes, slow)
