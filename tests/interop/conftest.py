"""Daemons on loopback, and the C programs."""

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pskkey import Suite
from pskkey.config.psk import generate_psk_line
from tests.interop.c_program import compile_c
from tests.interop.members import INTERFACE, Place, StartDaemons, wait_until_one_key
from tests.lab.daemon import Daemon

RETIRE_AFTER = 1.5


@pytest.fixture(scope="session")
def session_manager(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the session manager in C with Debian's wolfSSL."""
    return compile_c(tmp_path_factory.mktemp("c"), "session_manager.c", "group_keys.c")


@pytest.fixture
def place(unused_udp_port: int) -> Place:
    """A multicast group that no other test uses."""
    return Place("239.255.77.2", unused_udp_port)


@pytest.fixture
def start_daemons(unused_tcp_port: int) -> Iterator[StartDaemons]:
    """Start daemons on addresses of the loopback interface. The first one starts first and becomes master."""
    daemons: list[Daemon] = []
    # Not in pytest's own directory, because the path of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="pskkey-interop-") as name:
        directory = Path(name)
        psk = directory / "group.psk"
        psk.touch(0o600)
        psk.write_text(generate_psk_line("interop") + "\n")
        group = f"interop-{secrets.token_hex(4)}"

        async def start(count: int, suite: Suite = Suite.PSK_CHACHA20_POLY1305) -> list[Daemon]:
            for number in range(count):
                network = {
                    "interfaces": [INTERFACE],
                    "addresses": [f"127.0.0.{number + 1}"],
                    "port": unused_tcp_port,
                }
                tables: dict[str, dict[str, object]] = {
                    "group": {"name": group},
                    "node": {"priority": 200 - number},
                    "network": dict(network),
                    "psk": {"file": str(psk)},
                    "key": {"suite": suite.name, "retire_after": RETIRE_AFTER},
                }
                daemons.append(Daemon(directory / f"n{number + 1}", tables))
                daemons[-1].start()
                if number == 0:
                    await wait_until_one_key(daemons)
            await wait_until_one_key(daemons)
            return daemons

        yield start
        for daemon in daemons:
            daemon.destroy()
