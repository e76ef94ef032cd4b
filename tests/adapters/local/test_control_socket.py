"""The Varlink service with real sockets: its own interface, reading and commands."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pskkey.adapters.local.control_socket import (
    MAX_CONNECTIONS,
    Command,
    CommandRefused,
    ControlSocket,
    InvalidParameter,
)
from pskkey.errors import PeerError

STATUS = {"schema": 1, "group": "default", "role": "master", "members": []}


def rekey(parameters: dict[str, Any]) -> dict[str, Any]:
    for parameter in parameters:
        raise InvalidParameter(parameter)
    return {}


def switchover(parameters: dict[str, Any]) -> dict[str, Any]:
    if parameters.get("node") is None:
        raise PeerError("alone", "no other node can be master")
    raise CommandRefused("NoSuchNode", {"node": parameters["node"]})


@asynccontextmanager
async def service(
    path: Path,
    commands: Mapping[str, Command] | None = None,
    status: dict[str, Any] | Callable[[], dict[str, Any]] = STATUS,
    users: tuple[str, ...] = (),
    counters: Counter[str] | None = None,
) -> AsyncIterator[ControlSocket]:
    commands = {"Rekey": rekey, "Switchover": switchover} if commands is None else commands
    make = status if callable(status) else lambda: status
    counters = Counter() if counters is None else counters
    control = ControlSocket(make, commands, users, (), counters, "1.2", readings={"GetNetwork": lambda: {"seen": 1}})
    await control.start(path)
    try:
        yield control
    finally:
        await control.stop()


class Caller:
    """A Varlink client with plain JSON, independent of the code of the service."""

    def __init__(self, path: Path) -> None:
        self._pending = b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        self.socket.connect(str(path))

    async def send(self, *calls: dict[str, Any]) -> None:
        data = b"".join(json.dumps(call).encode() + b"\0" for call in calls)
        await self.send_bytes(data)

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self) -> dict[str, Any] | None:
        """Return the next reply, or None when the connection was closed."""
        async with asyncio.timeout(5):
            while b"\0" not in self._pending:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
                if not data:
                    return None
                self._pending += data
        reply, _, self._pending = self._pending.partition(b"\0")
        parsed: dict[str, Any] = json.loads(reply)
        return parsed

    async def wait_until_readable(self) -> None:
        """Wait until data is there, and do not read it."""
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(self.socket, readable.set)
        try:
            await asyncio.wait_for(readable.wait(), 5)
        finally:
            asyncio.get_running_loop().remove_reader(self.socket)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any] | None:
        await self.send({"method": method, "parameters": parameters})
        return await self.receive()


def error(name: str, **parameters: str) -> dict[str, Any]:
    return {"error": name, "parameters": parameters} if parameters else {"error": name}


async def test_service_describes_itself(tmp_path: Path) -> None:
    async with service(tmp_path / "c"):
        caller = Caller(tmp_path / "c")
        info = await caller.call("org.varlink.service.GetInfo")
        assert info is not None
        assert info["parameters"]["version"] == "1.2"
        assert info["parameters"]["interfaces"] == ["org.varlink.service", "io.pskkey.Control"]
        for interface in info["parameters"]["interfaces"]:
            reply = await caller.call("org.varlink.service.GetInterfaceDescription", interface=interface)
            assert reply is not None
            assert f"interface {interface}\n" in reply["parameters"]["description"]


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        ({"method": "io.pskkey.Control.GetStatus"}, {"parameters": STATUS}),
        ({"method": "io.pskkey.Control.GetStatus", "parameters": {}, "oneway": False}, {"parameters": STATUS}),
        ({"method": "io.pskkey.Control.GetNetwork"}, {"parameters": {"seen": 1}}),
        (
            {"method": "io.pskkey.Control.GetNetwork", "parameters": {"all": True}},
            error("org.varlink.service.InvalidParameter", parameter="all"),
        ),
        ({"method": "io.pskkey.Control.Rekey"}, {}),
        ({"method": "io.pskkey.Control.Rekey", "more": True}, {}),
        (
            {"method": "io.pskkey.Control.GetStatus", "parameters": {"all": True}},
            error("org.varlink.service.InvalidParameter", parameter="all"),
        ),
        (
            {"method": "io.pskkey.Control.GetStatus", "upgrade": True},
            error("org.varlink.service.InvalidParameter", parameter="upgrade"),
        ),
        (
            {"method": "io.pskkey.Control.Rekey", "parameters": {"now": 1}},
            error("org.varlink.service.InvalidParameter", parameter="now"),
        ),
        (
            {"method": "io.pskkey.Control.Switchover", "parameters": {"node": "x"}},
            error("io.pskkey.Control.NoSuchNode", node="x"),
        ),
        (
            {"method": "io.pskkey.Control.Switchover"},
            error("io.pskkey.Control.NotPossible", reason="no other node can be master"),
        ),
        (
            {"method": "io.pskkey.Control.Explode"},
            error("org.varlink.service.MethodNotFound", method="io.pskkey.Control.Explode"),
        ),
        (
            {"method": "io.pskkey.Other.GetStatus"},
            error("org.varlink.service.InterfaceNotFound", interface="io.pskkey.Other"),
        ),
        (
            {"method": "org.varlink.service.GetInterfaceDescription", "parameters": {"interface": "a.b"}},
            error("org.varlink.service.InterfaceNotFound", interface="a.b"),
        ),
        (
            {"method": "org.varlink.service.GetInterfaceDescription"},
            error("org.varlink.service.InvalidParameter", parameter="interface"),
        ),
        (
            {"method": "org.varlink.service.GetInfo", "parameters": {"x": 1}},
            error("org.varlink.service.InvalidParameter", parameter="x"),
        ),
        (
            {"method": "org.varlink.service.Explode"},
            error("org.varlink.service.MethodNotFound", method="org.varlink.service.Explode"),
        ),
    ],
)
async def test_calls_and_their_replies(tmp_path: Path, call: dict[str, Any], reply: dict[str, Any]) -> None:
    async with service(tmp_path / "c"):
        caller = Caller(tmp_path / "c")
        await caller.send(call)
        assert await caller.receive() == reply


async def test_described_method_that_the_daemon_lacks_is_not_implemented(tmp_path: Path) -> None:
    async with service(tmp_path / "c", commands={}):
        method = "io.pskkey.Control.Rekey"
        reply = await Caller(tmp_path / "c").call(method)
        assert reply == error("org.varlink.service.MethodNotImplemented", method=method)


async def test_calls_are_answered_in_order_and_oneway_calls_not_at_all(tmp_path: Path) -> None:
    async with service(tmp_path / "c"):
        caller = Caller(tmp_path / "c")
        await caller.send(
            {"method": "io.pskkey.Control.Rekey", "oneway": True},
            {"method": "io.pskkey.Control.Switchover", "parameters": {"node": "a"}},
            {"method": "io.pskkey.Control.GetStatus", "oneway": True, "more": True},
            {"method": "a.b.C", "oneway": True},
            {"method": "io.pskkey.Control.Rekey"},
            {"method": "io.pskkey.Control.GetStatus"},
        )
        assert await caller.receive() == error("io.pskkey.Control.NoSuchNode", node="a")
        assert await caller.receive() == {}
        assert await caller.receive() == {"parameters": STATUS}


async def test_caller_may_close_its_writing_side_and_still_read(tmp_path: Path) -> None:
    async with service(tmp_path / "c"):
        caller = Caller(tmp_path / "c")
        await caller.send({"method": "io.pskkey.Control.Rekey"}, {"method": "io.pskkey.Control.GetStatus"})
        caller.socket.shutdown(socket.SHUT_WR)
        assert await caller.receive() == {}
        assert await caller.receive() == {"parameters": STATUS}
        assert await caller.receive() is None


async def test_status_with_more_follows_changes(tmp_path: Path) -> None:
    status = dict(STATUS)
    async with service(tmp_path / "c", status=status) as control:
        follower, caller = Caller(tmp_path / "c"), Caller(tmp_path / "c")
        await follower.send({"method": "io.pskkey.Control.GetStatus", "more": True})
        assert await follower.receive() == {"parameters": STATUS, "continues": True}
        for term in range(1, 100):
            status["term"] = term
            control.status_changed()
        assert await follower.receive() == {"parameters": {**STATUS, "term": 99}, "continues": True}
        follower.socket.close()
        assert await caller.call("io.pskkey.Control.GetStatus") == {"parameters": {**STATUS, "term": 99}}


async def test_follower_that_does_not_read_costs_one_status(tmp_path: Path) -> None:
    now: dict[str, Any] = {"filler": "x" * 1_000_000, "term": 0}
    made: asyncio.Queue[int] = asyncio.Queue()

    def status() -> dict[str, Any]:
        made.put_nowait(now["term"])
        return now

    async with service(tmp_path / "c", status=status) as control:
        follower = Caller(tmp_path / "c")
        await follower.send({"method": "io.pskkey.Control.GetStatus", "more": True})
        await follower.wait_until_readable()  # the first status was made; none of it is read
        async with asyncio.timeout(10):
            for term in (1, 2, 3):
                now["term"] = term
                control.status_changed()
                while await made.get() != term:
                    pass
        terms: list[int] = []
        while not terms or terms[-1] != 3:
            reply = await follower.receive()
            assert reply is not None
            terms.append(reply["parameters"]["term"])
        assert terms == [0, 3]


async def test_command_with_an_unexpected_error_closes_its_caller_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    async with service(tmp_path / "c", commands={"Rekey": broken}):
        caller, other = Caller(tmp_path / "c"), Caller(tmp_path / "c")
        assert await caller.call("io.pskkey.Control.Rekey") is None
        assert await other.call("io.pskkey.Control.GetStatus") == {"parameters": STATUS}
    assert "ZeroDivisionError" in caplog.text


async def test_command_with_an_unexpected_error_closes_a_slow_caller_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    async with service(tmp_path / "c", commands={"Rekey": broken}, status={"filler": "x" * 1_000_000}):
        caller = Caller(tmp_path / "c")
        await caller.send({"method": "io.pskkey.Control.GetStatus"}, {"method": "io.pskkey.Control.Rekey"})
        await asyncio.sleep(0.1)
        assert not caplog.records  # it waits until the status is read
        with suppress(ConnectionResetError):  # an aborted connection loses the data that its caller has not read
            assert await caller.receive() is not None
            assert await caller.receive() is None
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "rubbish", [b"\0", b"{}\0", b"[]\0", b'{"method": 3}\0', b'{"method": "a.b.C", "x": 1}\0', b"x" * 65537, b"\xff\0"]
)
async def test_rubbish_closes_its_own_connection_only(tmp_path: Path, rubbish: bytes) -> None:
    counters: Counter[str] = Counter()
    async with service(tmp_path / "c", counters=counters):
        good, bad = Caller(tmp_path / "c"), Caller(tmp_path / "c")
        await bad.send_bytes(rubbish)
        assert await bad.receive() is None
        assert counters["bad_packets"] == 1
        assert await good.call("io.pskkey.Control.GetStatus") == {"parameters": STATUS}


async def test_connections_are_limited(tmp_path: Path) -> None:
    counters: Counter[str] = Counter()
    async with service(tmp_path / "c", counters=counters):
        callers = [Caller(tmp_path / "c") for _ in range(MAX_CONNECTIONS)]
        assert await callers[-1].call("io.pskkey.Control.GetStatus") == {"parameters": STATUS}
        assert await Caller(tmp_path / "c").receive() is None
        assert counters["connections_refused"] == 1
        callers.pop().socket.close()
        await asyncio.sleep(0.02)
        assert await Caller(tmp_path / "c").call("io.pskkey.Control.GetStatus") == {"parameters": STATUS}
