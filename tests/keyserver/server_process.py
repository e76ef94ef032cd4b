"""`pskkey-server` as a process of its own, so that its memory and open files can be counted."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self


class ServerProcess:
    """A running `pskkey-server` on a free port of 127.0.0.1; `prefix` stands before its command line."""

    def __init__(self, psk_path: Path, *options: str, prefix: Sequence[str] = ()) -> None:
        command = [*prefix, sys.executable, "-m", "pskkey.keyserver.pskkey_server", "--psk-file", str(psk_path)]
        # Files instead of pipes: the test does not read while the server runs, and a full pipe would stop it.
        self._printed, self._complained = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        self._process = subprocess.Popen(
            [*command, "--bind", "127.0.0.1", "--port", "0", *options], stdout=self._printed, stderr=self._complained
        )
        deadline = time.monotonic() + 10
        while (listening := re.search(r"port (\d+)\n", self._text_of(self._complained))) is None:
            assert self._process.poll() is None, self._text_of(self._complained)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.port = int(listening[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[str, str, int]:
        """End the server; return the texts of standard output and standard error, and the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(10)
        return self._text_of(self._printed), self._text_of(self._complained), self._process.returncode

    @staticmethod
    def _text_of(output: IO[str]) -> str:
        # Opened by its path, because reading must not move the position at which the server writes.
        return Path(f"/proc/self/fd/{output.fileno()}").read_text()

    @property
    def open_files(self) -> int:
        """How many file descriptors it has open."""
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())

    @property
    def memory(self) -> int:
        """Resident memory in KiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1])

    @property
    def cpu_time(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
