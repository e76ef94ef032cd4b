"""The real Avahi on a host of the laboratory, with a D-Bus of its own."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab.namespaces import Host

# In a mount namespace with a /run of its own: the machine may run Avahi and D-Bus too.
_SERVE: Final = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
exec avahi-daemon --no-drop-root --no-chroot --no-rlimits --no-proc-title
"""

_TEXT: Final = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Found:
    """A resolved line of `avahi-browse --parsable --resolve`."""

    interface: str
    protocol: str
    name: str
    address: str
    port: int
    pairs: dict[bytes, bytes | None]


class Avahi:
    """A running avahi-daemon, whose mount and network namespaces are those of the process `pid`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def browse(self, service: str) -> list[Found]:
        """Return what `avahi-browse -rt` lists. Raises CalledProcessError when the daemon does not answer."""
        printed = subprocess.run(
            ["nsenter", f"--target={self._pid}", "--mount", "--net", "--", "avahi-browse", "-rtp", service],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
        ).stdout
        return [_parse(line) for line in printed.splitlines() if line.startswith("=;")]


@contextmanager
def avahi_on(host: Host, log: Path) -> Iterator[Avahi]:
    """Run Avahi on a host until the end of the block; its output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*host.command, "unshare", "--mount", "sh", "-c", _SERVE], stdout=output, stderr=output
        )
    avahi = Avahi(process.pid)
    deadline = time.monotonic() + 10
    try:
        while True:
            try:
                avahi.browse("_nothing._tcp")
                break
            except subprocess.CalledProcessError as error:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"Avahi does not run: {error.stderr}\n{log.read_text()}") from error
                time.sleep(0.1)
        yield avahi
    finally:
        process.terminate()
        process.wait(10)


def _parse(line: str) -> Found:
    _, interface, protocol, name, _, _, _, address, port, text = line.split(";", 9)
    pairs: dict[bytes, bytes | None] = {}
    for pair in _TEXT.findall(text):
        key, _, value = pair.partition("=")
        pairs[key.encode()] = value.encode()
    return Found(interface, protocol, name, address, int(port), pairs)
