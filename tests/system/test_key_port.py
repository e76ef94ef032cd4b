"""The TCP port of the key server: no other program gets it between two starts. A daemon without it is a client."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import load_psk
from tests.keyserver.openssl import free_port
from tests.lab.daemon import Daemon
from tests.lab.group import Group
from tests.lab.service import Service
from tests.system.loopback import PORT, Loopback
from tests.system.notify_socket import NotifySocket
from tests.system.reloading import edit
from tests.system.starting import status_of

KEY_REQ = b"\1\1\0\0"
KEY_RESPONSE_SIZE = 4 + 128
WITHIN = 10.0


async def start_as_master(service: Service) -> None:
    """Start a service and wait until it is the master."""
    service.start()
    await Group([service]).together(WITHIN)


def reserved_addresses(service: Service) -> set[tuple[str, int]]:
    """Return the addresses and ports that the stored sockets reserve."""
    found = set()
    for fd in service.stored_as("port"):
        with socket.socket(fileno=os.dup(fd)) as stored:
            found.add(stored.getsockname()[:2])
    return found


async def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + WITHIN
    while not is_true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def take(address: str, port: int = PORT) -> socket.socket:
    """Listen there, as a program of another user would. Raises OSError."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((address, port))
        taken.listen()
    except OSError:
        taken.close()
        raise
    return taken


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nobody_takes_the_port_between_two_starts_and_connections_are_refused(
    loopback: Loopback, number: signal.Signals
) -> None:
    service = loopback.service("n1")
    await start_as_master(service)
    address = loopback.address(service)
    service.signal(number)
    await service.ended()
    for place in (address, "0.0.0.0"):
        with pytest.raises(OSError, match="in use"):
            take(place)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, PORT), 1)
    await start_as_master(service)
    context = client_context(load_psk(loopback.psk).active)
    reader, writer = await asyncio.open_connection(address, PORT, ssl=context, server_hostname="")
    writer.write(KEY_REQ)
    assert len(await asyncio.wait_for(reader.readexactly(KEY_RESPONSE_SIZE), WITHIN)) == KEY_RESPONSE_SIZE
    writer.close()
    assert reserved_addresses(service) == {(address, PORT)}


@pytest.mark.parametrize("change", ["another port", "one address instead of all", "all addresses instead of one"])
async def test_changed_address_is_reserved_at_the_next_start_and_the_former_is_released(
    loopback: Loopback, change: str
) -> None:
    port, former_port = free_port(), free_port()
    one: dict[str, object] = {"addresses": ["127.0.0.1"], "port": port}
    every: dict[str, object] = {"addresses": [], "port": port}
    match change:
        case "another port":
            before, after = {**one, "port": former_port}, one
        case "one address instead of all":
            before, after = every, one
        case _:
            before, after = one, every
    service = loopback.service("n1", {"network": before})
    await start_as_master(service)
    assert reserved_addresses(service), "the former address is stored"
    edit(service, {"network": after})
    service.signal(signal.SIGKILL)
    await service.ended()
    await start_as_master(service)
    wanted = {("0.0.0.0", port), ("::", port)} if after is every else {("127.0.0.1", port)}
    await wait_until(lambda: reserved_addresses(service) == wanted)
    assert "in use" not in service.log
    take("127.0.0.1", former_port).close()


@pytest.mark.parametrize("damage", ["a file", "listening", "another family"])
async def test_stored_descriptor_that_is_no_reservation_is_replaced(loopback: Loopback, damage: str) -> None:
    service = loopback.service("n1")
    match damage:
        case "a file":
            service.store("port", os.open(os.devnull, os.O_RDWR))
        case "listening":
            service.store("port", socket.create_server((loopback.address(service), PORT + 1)).detach())
        case _:
            other = socket.socket(socket.AF_UNIX)
            other.bind(str(service.directory / "other"))
            other.listen()
            service.store("port", other.detach())
    await start_as_master(service)
    assert "under the name port is no TCP socket" in service.log
    await wait_until(lambda: len(service.stored_as("port")) == 1)
    assert reserved_addresses(service) == {(loopback.address(service), PORT)}


async def test_daemon_without_the_port_is_a_client_until_it_gets_the_port(loopback: Loopback) -> None:
    squatted = loopback.daemon("n1", {"node": {"priority": 200}})
    other = loopback.daemon("n2")
    taken = take(loopback.address(squatted))
    with NotifySocket(squatted.directory / "notify") as notify:
        squatted.start(notify.environment)
        await notify.until("READY=1")
        await notify.until("STATUS=Listening, no key yet; no key server, see the journal")
        await asyncio.sleep(2.5)  # two more attempts, and long enough to become master
        status = await status_of(squatted)
        assert (status["role"], status["node"]["eligible"]) == ("listening", False)
        trouble = f"no key server, so this node cannot be master: port {PORT} of {loopback.address(squatted)} is in use"
        (warning,) = status["warnings"]
        assert warning.startswith(trouble)
        assert squatted.log.count(trouble) == 1
        (condition,) = status["conditions"]
        assert (condition["kind"], condition["peer"]) == ("no_key_server", None)
        other.start()
        group = Group([squatted, other])
        _, statuses = await group.together(WITHIN)
        (master,) = group.of(statuses, "master")
        assert master is other
        assert not await lists_as_eligible(other, squatted)
        taken.close()
        deadline = time.monotonic() + WITHIN
        while not await lists_as_eligible(other, squatted):
            assert time.monotonic() < deadline, squatted.log
            await asyncio.sleep(0.05)
        assert (await status_of(squatted))["warnings"] == []
        assert squatted.log.count("over: no key server") == 1
        await other.call("Switchover")
        await wait_until(lambda: "we are master of term 2" in squatted.log)
        await group.together(WITHIN)


async def lists_as_eligible(master: Daemon, member: Daemon) -> bool:
    """Return whether the master lists the member as eligible."""
    (found,) = [one for one in (await status_of(master))["members"] if one["id"] == member.id]
    return bool(found["eligible"])
