"""A Python program that may open no socket of AF_NETLINK, as under RestrictAddressFamilies= of systemd.exec(5)."""

import platform
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_FORBID = """
import ctypes, errno, socket, struct, sys
number = int(sys.argv[1])
# A classic BPF program, in struct sock_filter: code, jump if true, jump if false, value.
program = b"".join(struct.pack("=HBBI", *line) for line in [
    (0x20, 0, 0, 0),                              # load the number of the system call
    (0x15, 0, 3, number),                         # is it socket()?
    (0x20, 0, 0, 16),                             # load its first argument
    (0x15, 0, 1, socket.AF_NETLINK),              # is it AF_NETLINK?
    (0x06, 0, 0, 0x50000 | errno.EAFNOSUPPORT),   # fail
    (0x06, 0, 0, 0x7FFF0000),                     # allow
])
libc = ctypes.CDLL(None, use_errno=True)
lines = ctypes.create_string_buffer(program)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("lines", ctypes.c_void_p)]
whole = Program(len(program) // 8, ctypes.addressof(lines))
assert libc.prctl(38, 1, 0, 0, 0) == 0            # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(whole)) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
except OSError as error:
    assert error.errno == errno.EAFNOSUPPORT
else:
    raise AssertionError("netlink is allowed")
del sys.argv[1]
"""
_SOCKET = {"x86_64": 41, "aarch64": 198}
"""The number of the system call socket()."""


class Program:
    """The running program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> str:
        """Return the next line of its output, which comes within 10 s."""
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], 10)[0], "no line of output"
        return self._process.stdout.readline().strip()


@contextmanager
def no_netlink(source: str, *arguments: str) -> Iterator[Program]:
    """Run `source` in a process of its own, and end it after the block."""
    command = [sys.executable, "-c", _FORBID + source, str(_SOCKET[platform.machine()]), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()
