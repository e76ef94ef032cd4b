"""Settings of this process in the kernel and the C library: descriptor limit, core dumps, freed memory."""

import ctypes
import logging
import resource
import sys

_PR_SET_DUMPABLE = 4

_log = logging.getLogger("pskkey.process")


def raise_descriptor_limit() -> int:
    """Raise the limit of file descriptors to the hard limit. Return the limit (getrlimit(2))."""
    allowed, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        allowed = hard
    except (OSError, ValueError) as error:  # the hard limit is above what the kernel allows now (fs.nr_open)
        _log.info("the limit of open files stays at %d: %s", allowed, error)
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


def forbid_core_dumps() -> None:
    """Keep crashes from writing our memory to a disk, and other processes of our user from reading it (prctl(2)).

    A kernel that pipes core dumps to a program ignores the resource limit (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def return_freed_memory() -> None:
    """Return all free memory of glibc to the system, also in the middle of its heap (malloc_trim(3))."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        return  # another C library has no malloc_trim
