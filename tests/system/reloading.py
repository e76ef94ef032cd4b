"""Changes to the files of running daemons, and reloads with their answers in the log."""

import asyncio
import signal
import time
from collections.abc import Mapping

from tests.lab.daemon import Daemon, to_toml

type Edits = Mapping[str, Mapping[str, object]]


async def until(daemon: Daemon, text: str, after: int = 0, within: float = 10) -> str:
    """Wait until the log has `text` behind its first `after` characters; return the log from there."""
    deadline = time.monotonic() + within
    while text not in (log := daemon.log[after:]):
        assert time.monotonic() < deadline, f"no {text!r} in {log}"
        await asyncio.sleep(0.01)
    return log


async def reload(daemon: Daemon, answer: str = "reloaded") -> str:
    """Send SIGHUP and wait until the daemon logs `answer`; return the log since the signal."""
    size = len(daemon.log)
    daemon.signal(signal.SIGHUP)
    return await until(daemon, answer, size)


def edit(daemon: Daemon, edits: Edits) -> None:
    """Change keys of the configuration file. The new file replaces the former one in one step."""
    lines = daemon.config.read_text().splitlines()
    for table, values in edits.items():
        if f"[{table}]" not in lines:
            lines.append(f"[{table}]")
        for key, value in values.items():
            place = lines.index(f"[{table}]") + 1
            end = next((n for n in range(place, len(lines)) if lines[n].startswith("[")), len(lines))
            lines[place:end] = [line for line in lines[place:end] if not line.startswith(f"{key} =")]
            lines.insert(place, to_toml({table: {key: value}}).splitlines()[1])
    new = daemon.config.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.replace(daemon.config)
