"""A key server listens on a link-local address, which has its interface behind a %."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pskkey import KeyClient, KeyServer
from pskkey.adapters.tls.listening_sockets import bind, resolve
from pskkey.errors import ConfigError, Unreachable
from pskkey.tools.ctl.doctor_echo import EchoSockets
from pskkey.tools.ctl.doctor_probes import Answer, probe_peers
from pskkey.tools.ctl.network_reading import PeerStatus
from tests.lab.group import Group
from tests.lab.namespaces import INTERFACE
from tests.psk_files import write_psk
from tests.system.loopback import PORT, Loopback
from tests.system.private_network import configure, private_network

ADDRESS = "fe80::83"
"""The link-local address of the private network."""

ALTERNATIVE_NAMES = ("büro0", "enp0s31f6-büro-with-a-long-name")
"""The second is longer than the name of an interface can be."""

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Run each test in a network of its own."""
    with private_network():
        configure(*(f"link property add dev {INTERFACE} altname {name}" for name in ALTERNATIVE_NAMES))
        yield


def zones() -> tuple[str, ...]:
    """Return the forms of the zone: the names and the number of the interface."""
    return INTERFACE, str(socket.if_nametoindex(INTERFACE)), *ALTERNATIVE_NAMES


def run_module(name: str, *options: object) -> tuple[int, str]:
    """Run a program of ours to its end. Return its exit code and its standard error."""
    command = [sys.executable, "-m", f"pskkey.{name}", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stderr


def test_zone_may_be_any_name_or_a_number() -> None:
    for zone in zones():
        bound = bind(f"{ADDRESS}%{zone}", 0)
        assert bound is not None
        with bound:
            bound.listen()
            port = bound.getsockname()[1]
            socket.create_connection((f"{ADDRESS}%{INTERFACE}", port), timeout=10).close()


def test_bound_socket_has_the_resolved_address() -> None:
    """The reservation of a port is found again by this comparison after a restart."""
    for zone in zones():
        bound = bind(f"{ADDRESS}%{zone}", PORT)
        assert bound is not None
        with bound:
            assert (bound.family, bound.getsockname()) == resolve(f"{ADDRESS}%{zone}", PORT)


def test_zone_without_an_interface_is_reported() -> None:
    reason = f"{ADDRESS}%nosuch0 is not an address of this machine now .no interface 'nosuch0' is there"
    with pytest.raises(ConfigError, match=reason):
        resolve(f"{ADDRESS}%nosuch0", PORT)


def test_stand_alone_server_and_client_take_a_zone(tmp_path: Path) -> None:
    psk = write_psk(tmp_path / "psk", "a")
    for zone in zones():
        server = KeyServer(psk, bind=f"{ADDRESS}%{zone}", port=PORT)
        running = threading.Thread(target=server.run)
        running.start()
        try:
            client = KeyClient(psk, port=PORT, bind=f"{ADDRESS}%{zone}")
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert client.get_key(f"{ADDRESS}%{zone}").fingerprint == server.key.fingerprint
                    break
                except Unreachable:
                    assert time.monotonic() < deadline
        finally:
            server.stop()
            running.join()


def test_programs_for_scripts_ask_for_an_address_and_its_zone(tmp_path: Path) -> None:
    there = ("--psk-file", write_psk(tmp_path / "psk", "a"), "--port", PORT, "--bind")
    client, server = "keyserver.pskkey_client", "keyserver.pskkey_server"
    as_in = f'it is link-local, so it needs its interface, as in "{ADDRESS}%eth0"\n'
    for bind_to, code, sentence in (
        (INTERFACE, 3, f"cannot connect from '{INTERFACE}': it is not an IP address; give one of this machine\n"),
        (ADDRESS, 3, f"cannot connect from {ADDRESS}: {as_in}"),
        (
            f"{ADDRESS}%nosuch0",
            3,
            f"cannot connect from {ADDRESS}%nosuch0: this machine has no interface 'nosuch0' now\n",
        ),
        (
            f"{ADDRESS}%{INTERFACE}",
            3,
            f"10.83.0.1 cannot be reached from {ADDRESS}%{INTERFACE}: they have no common IP version\n",
        ),
    ):
        assert run_module(client, "10.83.0.1", *there, bind_to) == (code, f"pskkey-client: {sentence}")
    assert run_module(client, ADDRESS, *there[:-1]) == (3, f"pskkey-client: {ADDRESS}: {as_in}")
    assert run_module(server, *there, ADDRESS) == (2, f"pskkey-server: {ADDRESS} cannot be listened on: {as_in}")


async def test_doctor_measures_the_path_to_an_address_with_any_zone() -> None:
    with EchoSockets() as echo:
        for zone in zones():
            (size,) = await echo.measure([f"{ADDRESS}%{zone}"])
            assert size.arrived == size.wanted


async def test_doctor_reports_that_the_interface_of_an_address_is_missing() -> None:
    peer = PeerStatus("1" * 32, "far", (f"{ADDRESS}%nosuch0",), PORT, is_member=False)
    (probe,) = await probe_peers([peer], "2" * 32, PORT, None)
    assert (probe.answer, probe.reason) == (Answer.UNREACHABLE, "this machine has no interface 'nosuch0' now")


@pytest.mark.parametrize("zone", [INTERFACE, *ALTERNATIVE_NAMES])
async def test_daemon_listens_on_its_link_local_address(loopback: Loopback, zone: str) -> None:
    daemon = loopback.daemon("n1", {"network": {"interfaces": [INTERFACE], "addresses": [f"{ADDRESS}%{zone}"]}})
    assert run_module("tools.ctl.pskkeyctl", "check-config", "--config", daemon.config)[0] == 0
    daemon.start()
    await Group([daemon]).together(10)
    socket.create_connection((f"{ADDRESS}%{INTERFACE}", PORT), timeout=10).close()
    assert await daemon.stop() == 0
