"""What this process asks of the kernel and the C library: limits, no core dumps, freed memory back."""

import ctypes
import logging
import resource
import sys

_PR_SET_DUMPABLE = 4
_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD = 128 * 1024

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
    """Have glibc give large buffers back to the system when they are freed (mallopt(3), M_MMAP_THRESHOLD).

    A TLS handshake takes a buffer of 256 KiB. glibc would learn from the first ones freed to keep such sizes on its
    heap, and a storm of handshakes would leave the process twice as large for good.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    except AttributeError:
        return  # another C library, with its own ways
