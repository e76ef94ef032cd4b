"""A key server listens on a link-local address, which has its interface behind a %."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pskkey import KeyClient, KeyServer
from pskkey.adapters.tls.listening_sockets import bind, resolve
from pskkey.errors import ConfigError, Unreachable
from tests.lab.group import Group
from tests.lab.namespaces import INTERFACE
from tests.psk_files import write_psk
from tests.system.loopback import PORT, Loopback
from tests.system.private_network import private_network

ADDRESS = "fe80::83"
"""The link-local address of the private network."""

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Run each test in a network of its own."""
    with private_network():
        yield


def zones() -> tuple[str, str]:
    """Return the two forms of the zone: the name and the number of the interface."""
    return INTERFACE, str(socket.if_nametoindex(INTERFACE))


def test_zone_may_be_a_name_or_a_number() -> None:
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


async def test_daemon_listens_on_its_link_local_address(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1", {"network": {"interfaces": [INTERFACE], "addresses": [f"{ADDRESS}%{INTERFACE}"]}})
    daemon.start()
    await Group([daemon]).together(10)
    socket.create_connection((f"{ADDRESS}%{INTERFACE}", PORT), timeout=10).close()
    assert await daemon.stop() == 0
