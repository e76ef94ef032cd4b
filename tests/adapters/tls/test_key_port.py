"""The key port while this process cannot look for the interfaces of its addresses. Needs root."""

import asyncio
import socket

import pytest

from pskkey.adapters.tls.key_port import LOOK_EVERY, KeyPort
from pskkey.adapters.tls.listening_sockets import AddressMissing
from pskkey.rtnetlink.socket_address import find_socket_address
from tests.adapters.tls.ends import Ends
from tests.keyserver.openssl import free_port
from tests.no_descriptors import no_descriptor_left
from tests.system.private_network import bridge, own_network

pytestmark = pytest.mark.root

LONG = "a-long-alternative-name"


def test_missing_address_is_a_sentence_also_while_no_descriptor_is_left() -> None:
    with no_descriptor_left():
        error = AddressMissing(f"fe80::77%{LONG}")
    expected = f"fe80::77%{LONG} is not an address of this machine now, so the key server cannot listen on it"
    assert str(error) == expected


@pytest.mark.parametrize("zone", ["lan", "2", LONG])
async def test_key_server_listens_on_while_no_descriptor_is_left(ends: Ends, zone: str) -> None:
    changes: list[None] = []
    failures: list[BaseException] = []
    port, address = free_port(), f"fe80::77%{zone}"
    add_name = f"link property add dev lan altname {LONG}"
    with own_network("link set lo up", *bridge("lan", "fe80::77/64"), add_name):
        key_port = KeyPort(ends.server, {}, [], lambda: changes.append(None), failures.append)
        key_port.open([address], port)
        assert key_port.can_serve
        with no_descriptor_left():
            await asyncio.sleep(2.5 * LOOK_EVERY)  # two looks; nothing is to happen
            assert (key_port.can_serve, key_port.condition) == (True, None)
        with socket.socket(socket.AF_INET6) as connecting:
            connecting.settimeout(5)
            connecting.connect(find_socket_address(address, port)[1])
        await key_port.stop()
    assert (changes, failures) == ([], [])
