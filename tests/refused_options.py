"""Runs a program to which the kernel refuses some socket options: refused_options.py LEVEL:OPTION... -- PROGRAM...

A seccomp filter (seccomp(2)) makes setsockopt(2) fail with ENOPROTOOPT for these options, as kernels do that do not
have them. The program keeps the pid.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SETSOCKOPT: Final = {"x86_64": 54, "aarch64": 208}
"""The number of the system call."""

# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
SET_SECCOMP, SECCOMP_FILTER, NO_NEW_PRIVILEGES = 22, 2, 38
NUMBER, LEVEL, OPTION = 0, 24, 32
"""Offsets in `struct seccomp_data`: the number of the call, and the lower parts of its second and third argument."""


def command(*options: tuple[int, int]) -> tuple[str, ...]:
    """Return what stands before the command line of a program to which the kernel refuses these (level, option)."""
    return (sys.executable, str(Path(__file__)), *(f"{level}:{option}" for level, option in options), "--")


def refuse(options: Sequence[tuple[int, int]]) -> None:
    """Make setsockopt(2) fail for these options in this process, whatever program it becomes. Raises OSError."""
    code = [(LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 1, 0, SETSOCKOPT[platform.machine()]), (RETURN, 0, 0, ALLOW)]
    for level, option in options:
        code += [(LOAD, 0, 0, LEVEL), (JUMP_IF_EQUAL, 0, 3, level), (LOAD, 0, 0, OPTION), (JUMP_IF_EQUAL, 0, 1, option)]
        code.append((RETURN, 0, 0, ERRNO | errno.ENOPROTOOPT))
    code.append((RETURN, 0, 0, ALLOW))
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, SECCOMP_FILTER, program, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    end = sys.argv.index("--")
    refuse([(int(level), int(option)) for level, _, option in (text.partition(":") for text in sys.argv[1:end])])
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])  # noqa: S606
