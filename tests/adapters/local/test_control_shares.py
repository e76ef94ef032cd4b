"""`control.sock` under load: a caller with many calls does not delay other callers, and each user has a rate."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pskkey.adapters.local.control_connection import CALL_TIME
from pskkey.adapters.local.control_socket import ADMINISTRATOR_RATE, ControlSocket
from tests.adapters.local.test_control_socket import STATUS, Caller, service

GET_STATUS = json.dumps({"method": "io.pskkey.Control.GetStatus"}).encode() + b"\0"


async def test_caller_with_many_calls_does_not_delay_another_caller(tmp_path: Path) -> None:
    made = 0

    def slow_status() -> dict[str, Any]:
        nonlocal made
        made += 1
        time.sleep(0.003)
        return STATUS

    control = ControlSocket(slow_status, {}, (), (), Counter(), "1.2")
    await control.start(tmp_path / "c")
    flooding, other = Caller(tmp_path / "c"), Caller(tmp_path / "c")
    await flooding.send_bytes(GET_STATUS * 60)
    await flooding.receive()
    before = made
    assert await other.call("io.pskkey.Control.GetStatus") == {"parameters": STATUS}
    assert made - before < 20, "the calls of both are answered in turn"
    for _ in range(59):
        assert await flooding.receive() == {"parameters": STATUS}
    await control.stop()


async def test_calls_of_a_user_are_limited_to_a_rate_and_none_is_lost(tmp_path: Path) -> None:
    over = 40
    calls = int(ADMINISTRATOR_RATE.burst) + over
    async with service(tmp_path / "c"):
        began = time.monotonic()
        callers = [Caller(tmp_path / "c") for _ in range(4)]
        for caller in callers:
            await caller.send_bytes(GET_STATUS * (calls // 4))
        async with asyncio.TaskGroup() as tasks:
            for caller in callers:
                tasks.create_task(receive_statuses(caller, calls // 4))
        assert time.monotonic() - began > over / ADMINISTRATOR_RATE.per_second * 0.9


async def test_call_that_takes_long_costs_more(tmp_path: Path) -> None:
    def expensive_status() -> dict[str, Any]:
        until = time.thread_time() + 50 * CALL_TIME
        while time.thread_time() < until:
            pass
        return STATUS

    control = ControlSocket(expensive_status, {}, (), (), Counter(), "1.2")
    await control.start(tmp_path / "c")
    caller = Caller(tmp_path / "c")
    free = int(ADMINISTRATOR_RATE.burst / 50)
    began = time.monotonic()
    await caller.send_bytes(GET_STATUS * (free + 4))
    await receive_statuses(caller, free + 4)
    # The last call waits for the tokens of all calls before it but one. Meanwhile tokens return.
    assert time.monotonic() - began > 50 * (free + 3) / ADMINISTRATOR_RATE.per_second - 2.0
    await control.stop()


async def receive_statuses(caller: Caller, count: int) -> None:
    for _ in range(count):
        assert await caller.receive() == {"parameters": STATUS}


async def test_follower_that_closes_is_forgotten(tmp_path: Path) -> None:
    async with service(tmp_path / "c") as control:
        follower = Caller(tmp_path / "c")
        await follower.send({"method": "io.pskkey.Control.GetStatus", "more": True})
        await follower.send_bytes(GET_STATUS * 10)
        assert await follower.receive() == {"parameters": STATUS, "continues": True}
        follower.socket.close()
        control.status_changed()
        # The place of a forgotten follower is free again.
        callers = [Caller(tmp_path / "c") for _ in range(64)]
        assert await callers[-1].call("io.pskkey.Control.GetStatus") == {"parameters": STATUS}
