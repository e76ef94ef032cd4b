"""What this process asks of the kernel for the sake of the keys in its memory."""

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Let no crash write our memory to a disk, and no other process of our user read it (prctl(2), core(5)).

    The resource limit alone does not bind a kernel that pipes core dumps to a program.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
