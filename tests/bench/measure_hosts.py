"""The cost of the daemon on three booted Debian 13 hosts with the package, beside the promised limits.

Start: the median time of `systemctl start pskkeyd`. Memory: the proportional set size (PSS, proc_pid_smaps(5)) of an
idle client, with its share of the mapped libraries. Processor: the use by the master and the clients of an idle group
of three, in percent of one core. Status: the median time of `pskkeyctl status`. Each time covers the whole command on
the host, with some milliseconds to enter the host.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.hosts.group import Group, unit
from tests.hosts.host import Host
from tests.hosts.network import booted_hosts
from tests.packaging import debian_package

STARTS: Final = 7
STATUSES: Final = 30
QUIET_AFTER: Final = 5.0
"""Seconds after which a new group sends nothing more about its beginning."""
PROMISED: Final = {"start_s": 1.0, "memory_mb": 60.0, "processor_percent": 0.5, "status_s": 0.15}
"""The upper limits; each measured value must be lower."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(prog="tests/bench/hosts", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to watch the idle group (30)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        deb = debian_package.build(Path(directory))
        with booted_hosts(3) as hosts:
            group = Group(hosts, deb)
            group.establish()
            measured = _measure(group, options.seconds)
    kept = all(max(values) < PROMISED[name] for name, values in measured.items())
    if options.json:
        result = {"schema": 1, "promised": PROMISED, "measured": measured, "promises_kept": kept}
        print(json.dumps(result))
    else:
        _print_table(measured, kept)
    return 0 if kept else 1


def _measure(group: Group, seconds: float) -> dict[str, list[float]]:
    """Return the measured values of each promise: one value, or one for the master and for each client."""
    client = group.clients[0]
    starts = []
    for _ in range(STARTS):
        client.run("systemctl", "stop", "pskkeyd")
        starts.append(_timed(lambda: client.run("systemctl", "start", "pskkeyd")))
        group.wait_until_settled()
    time.sleep(QUIET_AFTER)
    members = [group.master, *group.clients]
    before, begin = [_processor_time(host) for host in members], time.monotonic()
    time.sleep(seconds)
    after, elapsed = [_processor_time(host) for host in members], time.monotonic() - begin
    statuses = [_timed(lambda: client.run("pskkeyctl", "status")) for _ in range(STATUSES)]
    return {
        "start_s": [statistics.median(starts)],
        "memory_mb": [_memory(client)],
        "processor_percent": [100 * (late - early) / elapsed for early, late in zip(before, after, strict=True)],
        "status_s": [statistics.median(statuses)],
    }


def _timed(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def _processor_time(host: Host) -> float:
    """Return the processor time of the daemon in seconds (/proc/PID/schedstat has nanoseconds)."""
    return int(host.read(f"/proc/{unit(host, 'MainPID')}/schedstat").split()[0]) / 1e9


def _memory(host: Host) -> float:
    """Return the daemon's proportional set size in megabytes of 10**6 bytes."""
    lines = host.read(f"/proc/{unit(host, 'MainPID')}/smaps_rollup").splitlines()
    (kibibytes,) = (int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kibibytes * 1024 / 1e6


def _print_table(measured: dict[str, list[float]], kept: bool) -> None:
    rows = {
        "systemctl start, until active": ("start_s", 1000, "ms"),
        "memory of an idle client (PSS)": ("memory_mb", 1, "MB"),
        "processor, idle: master, clients": ("processor_percent", 1, "% of a core"),
        "pskkeyctl status": ("status_s", 1000, "ms"),
    }
    print("pskkeyd on three booted Debian 13 hosts")
    for title, (name, factor, what) in rows.items():
        values = ", ".join(f"{factor * value:.3g}" for value in measured[name])
        print(f"{title:<34}{values + ' ' + what:<34}promised < {factor * PROMISED[name]:g}")
    print("all promises kept" if kept else "a promise was not kept")


if __name__ == "__main__":
    sys.exit(main())
