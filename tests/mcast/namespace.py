"""A network namespace for this process alone, with one interface that carries multicast to itself."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INTERFACE = "mc0"


@contextmanager
def multicast_namespace() -> Iterator[str]:
    """Enter a fresh namespace and return its interface's name; leave and delete it at the end. Needs root."""
    name = f"pskkey-mcast-{os.getpid()}"
    own = Path("/proc/thread-self/ns/net").open("rb")  # noqa: SIM115 - closed below, after the return
    _ip("netns", "add", name)
    try:
        with (Path("/run/netns") / name).open("rb") as fresh:
            os.setns(fresh.fileno(), os.CLONE_NEWNET)
        _ip("link", "add", INTERFACE, "type", "veth", "peer", "name", "mc1")
        _ip("link", "set", "mc1", "up")
        _ip("link", "set", INTERFACE, "up")
        _ip("address", "add", "10.77.0.1/24", "dev", INTERFACE)
        _ip("address", "add", "fd77::1/64", "dev", INTERFACE, "nodad")
        _ip("link", "set", "lo", "up")
        yield INTERFACE
    finally:
        os.setns(own.fileno(), os.CLONE_NEWNET)
        own.close()
        _ip("netns", "delete", name)


def pull_cable(interface: str) -> None:
    """Take an interface down."""
    _ip("link", "set", interface, "down")


def plug_cable(interface: str) -> None:
    """Bring an interface up again, and restore the IPv6 address that it lost."""
    _ip("link", "set", interface, "up")
    _ip("address", "replace", "fd77::1/64", "dev", interface, "nodad")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
