"""The place of a scenario: hosts on a switch, a group's pre-shared key, and daemons on those hosts."""

import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from pskkey.config.psk import generate_psk_line
from tests import released
from tests.lab.daemon import PSKKEYD, Tables, environment
from tests.lab.group import Group
from tests.lab.namespaces import Switch, own_label, switch
from tests.lab.service import Service


class Laboratory:
    """Makes groups of daemons, each daemon on a host of its own. Hosts are made when first needed, and reused."""

    def __init__(self, hosts: Switch, directory: Path, seed: int) -> None:
        self.hosts = hosts
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

    def group(self, nodes: int, tables: Tables | None = None) -> Group:
        """Return daemons n1, n2, ... that are not started; their ids, and so their ranks, are random.

        `tables` is their configuration without the id and the pre-shared key.
        """
        while len(self.hosts.hosts) < nodes:
            self.hosts.add_host()
        self._groups += 1
        directory = self._directory / str(self._groups)
        directory.mkdir()
        return Group(self._daemon(directory, number, tables or {}) for number in range(1, nodes + 1))

    def _daemon(self, directory: Path, number: int, more: Tables) -> Service:
        host = self.hosts.hosts[number - 1]
        own: Tables = {"node": {"id": self.random.randbytes(16).hex()}, "psk": {"file": str(self.psk)}}
        tables = {**more, **own}
        return Service(directory / f"n{number}", tables, host.command)


@contextmanager
def laboratory(seed: int) -> Iterator[Laboratory]:
    """Set up an empty laboratory, and take it down at the end. Needs root."""
    with switch() as hosts, tempfile.TemporaryDirectory(prefix=f"{own_label()}-") as directory:
        # Python writes its byte code now, so that this takes no time of a run.
        subprocess.run([PSKKEYD, "--version"], check=True, capture_output=True, env=environment())
        yield Laboratory(hosts, Path(directory), seed)
