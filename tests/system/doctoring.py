"""Run `pskkeyctl doctor` beside a daemon, on the host of the daemon."""

import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.lab.daemon import Daemon, environment
from tests.system.pskkeyctl_process import PSKKEYCTL

type Finding = dict[str, Any]


async def doctor(daemon: Daemon, *prefix: str) -> tuple[int, list[Finding]]:
    """Run it, with `prefix` before its command line; return its exit code and its findings."""
    options: list[str | Path] = ["--config", daemon.config, "--socket", daemon.control_socket, "--json"]
    command: list[str | Path] = [*daemon.prefix, *prefix, PSKKEYCTL, "doctor", *options]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    output, errors = await asyncio.wait_for(process.communicate(), 40)
    assert errors.decode() == ""
    assert process.returncode is not None
    found = json.loads(output)
    assert found["schema"] == 1
    return process.returncode, found["checks"]


def texts(findings: Sequence[Finding], check: str, *, ok: bool) -> list[str]:
    """Return the sentences of a check."""
    return [one["text"] for one in findings if (one["check"], one["ok"]) == (check, ok)]


def faults(findings: Sequence[Finding]) -> list[str]:
    """Return all sentences about faults. Each fault has a remedy, and nothing else has one."""
    assert all(bool(one["remedy"]) is not one["ok"] for one in findings)
    return [one["text"] for one in findings if not one["ok"]]
