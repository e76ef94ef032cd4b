"""Real daemons on loopback addresses, without root. Each group has its own name, key and range of addresses."""

import random
from pathlib import Path

from pskkey.config.psk import generate_psk_line
from tests.lab import namespaces
from tests.lab.daemon import Daemon, Tables
from tests.lab.service import Service

PORT = 11111
MULTICAST_INTERFACE = "127.0.0.1"
"""All groups on loopback use mDNS on this interface. Each ignores the others."""

DIES_WITH_US = namespaces.DIES_WITH_US


class Loopback:
    """Makes daemons of one group; `destroy` ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.psk = directory / "psk"
        self.psk.touch(0o600)
        self.psk.write_text(generate_psk_line("group") + "\n")
        self.daemons: list[Daemon] = []
        chance = random.SystemRandom()
        self.group = f"test-{chance.getrandbits(48):012x}"
        self._network = f"127.{chance.randrange(64, 255)}.{chance.randrange(256)}"

    def daemon(self, name: str, tables: Tables | None = None, prefix: tuple[str, ...] = DIES_WITH_US) -> Daemon:
        """Return a daemon that is not started, with `tables` on top of the group's configuration."""
        return self._add(Daemon(self.directory / name, self._tables(tables), prefix))

    def service(self, name: str, tables: Tables | None = None) -> Service:
        """Return a daemon of a service manager. It is not started."""
        return self._add(Service(self.directory / name, self._tables(tables), DIES_WITH_US))

    def _add[T: Daemon](self, daemon: T) -> T:
        self.daemons.append(daemon)
        return daemon

    def _tables(self, tables: Tables | None) -> Tables:
        address = f"{self._network}.{len(self.daemons) + 1}"
        merged: dict[str, dict[str, object]] = {
            "group": {"name": self.group},
            "network": {"interfaces": [MULTICAST_INTERFACE], "addresses": [address], "port": PORT},
            "psk": {"file": str(self.psk)},
        }
        for table, values in (tables or {}).items():
            merged[table] = {**merged.get(table, {}), **values}
        return merged

    def address(self, daemon: Daemon) -> str:
        """Return the address at which one of our daemons listens."""
        return f"{self._network}.{self.daemons.index(daemon) + 1}"

    def destroy(self) -> None:
        """End all daemons."""
        for daemon in self.daemons:
            daemon.destroy()
