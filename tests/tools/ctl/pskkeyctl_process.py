"""pskkeyctl as a process of its own, against the real control socket, with a status that the test chooses."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pskkey.adapters.local.control_socket import ControlSocket

_PUMP_1, _PUMP_2 = "5f3a0b12" + "a" * 24, "77aa0102" + "b" * 24

MASTER: Final[dict[str, Any]] = {
    "schema": 1,
    "group": "default",
    "role": "master",
    "term": 3,
    "node": {"id": _PUMP_1, "name": "pump-1", "priority": 100, "eligible": True, "version": "0.1.0"},
    "master": {"id": _PUMP_1, "name": "pump-1", "address": "10.0.0.1", "port": 11111},
    "keys": [
        {"epoch": 6, "suite": "PSK_CHACHA20_POLY1305", "fingerprint": "0f" * 8, "state": "previous", "age_s": 7300.0},
        {"epoch": 7, "suite": "PSK_CHACHA20_POLY1305", "fingerprint": "a1" * 8, "state": "current", "age_s": 12.3},
    ],
    "requests": [{"reason": "receiver_began", "due_s": 12.0}, {"reason": "sender_restarted", "due_s": 0.0}],
    "sender_id": 4,
    "members": [
        {
            "id": _PUMP_1, "name": "pump-1", "role": "master", "address": "10.0.0.1", "sender_id": 4,
            "priority": 100, "eligible": True, "acked_epoch": 7,
        },
        {
            "id": _PUMP_2, "name": "Pümpe\x1b[31m", "role": "client", "address": None, "sender_id": None,
            "priority": 50, "eligible": False, "acked_epoch": 6,
        },
    ],
    "sessions": [{"pid": 812, "uid": 998, "sender": True, "acked_epoch": 7}],
    "counters": {"handshakes_ok": 12, "handshakes_failed": 2, "adverts_rejected": 0},
    "added_later": {"x": 1},
}  # fmt: skip
CLIENT: Final = {
    **MASTER,
    "role": "client",
    "master": {"id": _PUMP_2, "name": "pump-2", "address": "fe80::2", "port": 4711},
    "counters": {},
}
LISTENING: Final = {
    **MASTER,
    "role": "listening",
    "master": None,
    "keys": [],
    "requests": [],
    "members": [],
    "sessions": [],
    "sender_id": None,
}
NETWORK: Final[dict[str, Any]] = {
    "schema": 1,
    "interfaces": ["lo"],
    "ip": "v4",
    "port": 4711,
    "addresses": ["192.0.2.1"],
    "peers": [],
    "peers_left_out": 0,
    "heard": [
        {"kind": "ours", "name": "valve", "id": "ab" * 8, "group": "default", "source": "10.0.0.2", "age_s": 1.0}
    ],
    "added_later": 1,
}
"""The network of a daemon on loopback, which heard another node."""


@dataclass
class Result:
    """The result of a run of pskkeyctl."""

    code: int | None
    output: str
    errors: str


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run: ours without the variables of pskkey, and `extra`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PSKKEY_", "NO_COLOR"))}
    return {**clean, "TERM": "xterm", "PYTHONUTF8": "1", **extra}


async def start(
    *arguments: str | Path, extra: Mapping[str, str], stdout: int = subprocess.PIPE
) -> asyncio.subprocess.Process:
    """Start it, with `extra` in its environment."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pskkey.tools.ctl.pskkeyctl", *arguments,
        stdout=stdout, stderr=subprocess.PIPE, env=_environment(extra),
    )  # fmt: skip


async def run(*arguments: str | Path, **extra: str) -> Result:
    """Run it to its end, with `extra` in its environment."""
    process = await start(*arguments, extra=extra)
    output, errors = await asyncio.wait_for(process.communicate(), 20)
    return Result(process.returncode, output.decode(), errors.decode())


@asynccontextmanager
async def daemon(path: Path, status: dict[str, Any], network: dict[str, Any] | None = None) -> AsyncIterator[None]:
    """Answer at `path`, during the block, with this status, and with this network unless the daemon is an old one."""
    readings = {} if network is None else {"GetNetwork": lambda: network}
    control = ControlSocket(lambda: status, {}, (), (), Counter(), "0.1.0", readings=readings)
    await control.start(path)
    try:
        yield
    finally:
        await control.stop()
