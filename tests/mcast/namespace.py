"""A network namespace for this process alone, with an interface that carries multicast to itself."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INTERFACE = "mc0"


def name_of_namespace() -> str:
    """Return the name of the namespace that this process makes."""
    return f"pskkey-mcast-{os.getpid()}"


@contextmanager
def multicast_namespace() -> Iterator[str]:
    """Enter a fresh namespace and return its interface's name; leave and delete it at the end. Needs root."""
    name = name_of_namespace()
    own = Path("/proc/thread-self/ns/net").open("rb")  # noqa: SIM115 - closed below, after the return
    ip("netns", "add", name)
    try:
        with (Path("/run/netns") / name).open("rb") as fresh:
            os.setns(fresh.fileno(), os.CLONE_NEWNET)
        make_interface(INTERFACE)
        ip("link", "set", "lo", "up")
        yield INTERFACE
    finally:
        os.setns(own.fileno(), os.CLONE_NEWNET)
        own.close()
        ip("netns", "delete", name)


def make_interface(interface: str, number: int = 0) -> None:
    """Make an interface that is up. `number` makes its addresses and its other end different from those of others."""
    other_end = f"end{number}"
    ip("link", "add", interface, "type", "veth", "peer", "name", other_end)
    ip("link", "set", other_end, "up")
    ip("link", "set", interface, "up")
    give_addresses(interface, number)


def give_addresses(interface: str, number: int = 0) -> None:
    """Give an interface the addresses that it lost."""
    ip("address", "replace", f"10.77.{number}.1/24", "dev", interface)
    ip("address", "replace", f"fd77:{number}::1/64", "dev", interface, "nodad")


def delete_interface(interface: str) -> None:
    """Pull an adapter out."""
    ip("link", "delete", interface)


def pull_cable(interface: str) -> None:
    """Take an interface down."""
    ip("link", "set", interface, "down")


def plug_cable(interface: str) -> None:
    """Bring an interface up again, and restore the IPv6 address that it lost."""
    ip("link", "set", interface, "up")
    give_addresses(interface)


def ip(*arguments: str | bytes) -> None:
    """Run the command ip."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
