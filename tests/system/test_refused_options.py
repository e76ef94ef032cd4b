"""Socket options that only make it faster: programs do without those that the kernel refuses."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests import refused_options
from tests.keyserver.server_process import ServerProcess
from tests.lab.group import Group
from tests.psk_files import write_psk
from tests.system.loopback import DIES_WITH_US, Loopback
from tests.system.starting import status_of

TCP_THIN_LINEAR_TIMEOUTS: Final = 16
OF_TCP: Final = ((socket.IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS),)
"""Without TCP_NODELAY, which asyncio sets itself."""
OF_UDP: Final = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF),
    (socket.SOL_SOCKET, 33),  # SO_RCVBUFFORCE
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.IPPROTO_IP, 49),  # IP_MULTICAST_ALL
)
MEMBERS: Final = (sys.executable, "-m", "pskkey.tools.mcastpeer.mcastpeer", "2", "--duration", "1")


async def test_nodes_whose_kernel_refuses_options_are_one_group_and_count_them(loopback: Loopback) -> None:
    prefix = (*DIES_WITH_US, *refused_options.command(*OF_TCP, (socket.SOL_SOCKET, socket.SO_RCVBUF)))
    daemons = [loopback.daemon(f"n{number}", prefix=prefix) for number in range(2)]
    for daemon in daemons:
        daemon.start()
    await Group(daemons).together(20)
    for daemon in daemons:
        counters = (await status_of(daemon))["counters"]
        # One listening socket with two options, and one mDNS socket or more.
        assert counters["socket_options_refused"] >= 3
        for name in ("TCP_THIN_LINEAR_TIMEOUTS", "SO_RCVBUF"):
            assert daemon.log.count(f"socket option {name}") == 1


async def test_nodes_whose_kernel_has_all_options_count_none(loopback: Loopback) -> None:
    daemon = loopback.daemon("n0")
    daemon.start()
    await Group([daemon]).together(20)
    assert (await status_of(daemon))["counters"].get("socket_options_refused", 0) == 0


def test_key_server_and_key_client_do_without_options(tmp_path: Path) -> None:
    psk, prefix = write_psk(tmp_path / "psk", "node"), refused_options.command(*OF_TCP)
    with ServerProcess(psk, prefix=prefix) as server:
        asked = [*prefix, sys.executable, "-m", "pskkey.keyserver.pskkey_client", "127.0.0.1"]
        done = subprocess.run(
            [*asked, "--port", str(server.port), "--psk-file", str(psk)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_multicast_does_without_options() -> None:
    done = subprocess.run([*refused_options.command(*OF_UDP), *MEMBERS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_multicast_needs_its_membership() -> None:
    needed = refused_options.command((socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP))
    done = subprocess.run([*needed, *MEMBERS], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "cannot join multicast group" in done.stderr
    assert "Traceback" not in done.stderr
