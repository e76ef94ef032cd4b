"""The entry point of `pskkeyd`, also as `python -m pskkey`: loads the daemon quickly, then runs it."""

import gc
import signal
import sys
from importlib import import_module
from typing import Final

from pskkey import program

COLLECTED_AFTER: Final = (700, 2, 10)
"""Often and little at a time: by Python's own (2000, 10, 10), a flood of connections leaves 15,000 objects to be looked
at in one turn of the event loop, which takes 40 ms of processor time."""


def main() -> int:
    """Run the daemon and return its exit code."""
    return program.run("pskkeyd", _load_and_run)


def _load_and_run() -> int:
    """Run `pskkey.app` and return its exit code.

    Nothing that loads here is ever garbage, and looking for some meanwhile takes a sixth of the start: the collector
    begins afterwards, and passes over what was loaded.
    """
    # Until the daemon takes it as the wish to read the PSK file again, which it has not read yet.
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
