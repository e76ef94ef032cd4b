"""The entry point of `pskkeyd` and of `python -m pskkey`. It loads the daemon quickly, then runs it."""

import gc
import signal
import sys
from importlib import import_module
from typing import Final

from pskkey import program

COLLECTED_AFTER: Final = (700, 2, 10)
"""The thresholds of the garbage collector: it runs often and does little at a time. With Python's own (2000, 10, 10), a
flood of connections leaves 15,000 objects for one turn of the event loop, which takes 40 ms of processor time."""


def main() -> int:
    """Run the daemon and return its exit code."""
    return program.run("pskkeyd", _load_and_run)


def _load_and_run() -> int:
    """Run `pskkey.daemon.main` and return its exit code.

    The loaded modules are never garbage, and a search for garbage takes a sixth of the start. So the collector begins
    after the modules are loaded, and passes over them.
    """
    # SIGHUP is a request to read the PSK file again. The daemon has not read it yet, so the signal is ignored for now.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    gc.disable()
    app = import_module("pskkey.daemon.main")
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
    gc.enable()
    code: int = app.main()
    return code


if __name__ == "__main__":
    sys.exit(main())
