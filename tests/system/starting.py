"""Daemons of one group, started so that a test knows which of them is the master."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab.daemon import Daemon, Status
from tests.lab.group import Group, Statuses
from tests.system.loopback import Loopback
from tests.system.reloading import Edits


async def one_daemon(
    loopback: Loopback, edits: Edits | None = None, environment: Mapping[str, str] | None = None
) -> Daemon:
    """Start a daemon and wait until it is the master."""
    daemon = loopback.daemon("n1", edits)
    daemon.start(environment or {})
    await Group([daemon]).together(10)
    return daemon


async def in_order(daemons: Sequence[Daemon]) -> Group:
    """Start daemons so that the first is the master, and wait until they are a group and each lists all of them."""
    first, *others = daemons
    first.start()
    await Group([first]).together(20)
    for daemon in others:
        daemon.start()
    group = Group(daemons)
    await group.together(20, _why_incomplete)
    return group


def _why_incomplete(statuses: Statuses) -> str | None:
    """Return which daemon does not list all others; None: each does.

    A client learns of another after `group_interval`.
    """
    known = [status for status in statuses.values() if status is not None]
    for status in known:
        members = {member["id"] for member in status["members"]}
        if missing := [other["node"]["name"] for other in known if other["node"]["id"] not in members]:
            return f"{status['node']['name']} does not list {', '.join(missing)}"
    return None


async def group_of(loopback: Loopback, count: int, dead_after: float = 1.5) -> tuple[Daemon, ...]:
    """Start daemons of which the first will be the master, and wait until they are a group."""
    daemons = tuple(
        loopback.daemon(f"n{n}", {"node": {"priority": 200 - n}, "election": {"dead_after": dead_after}})
        for n in range(count)
    )
    await in_order(daemons)
    return daemons


def nodes(loopback: Loopback, line: str, count: int = 3) -> list[Daemon]:
    """Return daemons, each with a PSK file of its own."""
    daemons = []
    for number in range(count):
        psk = loopback.directory / f"psk{number}"
        psk.touch(0o600)
        psk.write_text(line)
        tables: dict[str, dict[str, object]] = {"node": {"priority": 200 - number}, "psk": {"file": str(psk)}}
        daemons.append(loopback.daemon(f"n{number}", tables))
    return daemons


def psk_of(daemon: Daemon) -> Path:
    """Return the PSK file of a daemon that `nodes` has made."""
    return daemon.directory.with_name(f"psk{daemon.name[1:]}")


async def status_of(daemon: Daemon) -> Status:
    """Return the status of a daemon that must answer."""
    status = await daemon.status()
    assert status is not None
    return status
