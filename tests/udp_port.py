"""A program that has UDP port 5353, so that mDNS of ours cannot use it."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

NOBODY = 65534
"""The user id of the program if it shares the port, which it can do with programs of its own user only."""

_PROGRAM = """
import os, socket, sys
shares, *families = map(int, sys.argv[1:])
if shares:
    os.setuid({user})
held = []
for family in families:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(("", 5353))
    held.append(made)
print(flush=True)
input()
"""


@contextmanager
def port_taken(*families: int, shares: bool = False, prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that has the port of these families (none: IPv4) for itself, or, if it `shares`, for its user.

    `prefix` begins its command.
    """
    numbers = [str(int(number)) for number in (shares, *(families or (socket.AF_INET,)))]
    command = [*prefix, sys.executable, "-c", _PROGRAM.format(user=NOBODY), *numbers]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()
