"""Boots hosts for manual tests."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.hosts.group import Group
from tests.hosts.network import booted_hosts
from tests.packaging import debian_package


def main(arguments: Sequence[str] | None = None) -> int:
    """Boot the hosts, print the command that enters each host, and wait for a signal."""
    parser = argparse.ArgumentParser(prog="tests/hosts/up", description=__doc__)
    parser.add_argument("--hosts", type=int, default=3, metavar="N", help="how many (3)")
    parser.add_argument("--bare", action="store_true", help="without the package")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("tests/hosts/up: needs root", file=sys.stderr)
        return 4
    try:
        with booted_hosts(options.hosts) as hosts, tempfile.TemporaryDirectory() as directory:
            if not options.bare:
                Group(hosts, debian_package.build(Path(directory))).establish()
            for host in hosts:
                print(f"{host.name}: {' '.join(host.command)} bash", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
