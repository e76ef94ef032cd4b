"""What this process asks of the kernel and the C library: limits, no core dumps, freed memory back."""

import ctypes
import logging
import resource
import sys

_PR_SET_DUMPABLE = 4

_log = logging.getLogger("pskkey.process")


def raise_descriptor_limit() -> int:
    """Allow this process as many file descriptors as it may have at all; return that number (getrlimit(2))."""
    allowed, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        allowed = hard
    except (OSError, ValueError) as error:  # a hard limit above what the kernel allows by now (fs.nr_open)
        _log.info("the limit of open files stays at %d: %s", allowed, error)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def forbid_core_dumps() -> None:
    """Let no crash write our memory to a disk, and no other process of our user read it (prctl(2), core(5)).

    The resource limit alone does not bind a kernel that pipes core dumps to a program.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def return_freed_memory() -> None:
    """Have glibc give all memory that is free back to the system, also in the middle of its heap (malloc_trim(3))."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        return  # another C library, with its own ways
