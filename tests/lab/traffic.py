"""The traffic of a group: a streaming session manager on every node, from its start to its notes."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.lab.daemon import Daemon, environment
from tests.lab.group import Failed, Group
from tests.lab.losses import Notes
from tests.quality.tracked import ROOT

SETTLE: Final = 1.0
"""Seconds after the last datagram in which it may still arrive."""
REPORT_WITHIN: Final = 20.0


class _Peer:
    """One traffic peer's process."""

    def __init__(self, daemon: Daemon, number: int) -> None:
        self.name = daemon.name
        self.number = number
        self.hears: set[int] = set()
        self.report = daemon.directory / "traffic"
        self._log = daemon.directory / "traffic.log"
        module: list[str | Path] = ["-m", "tests.lab.traffic_peer", str(number), daemon.keys_socket, self.report]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*daemon.prefix, sys.executable, *module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                cwd=ROOT,
                start_new_session=True,
            )
        self._unread = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def listen(self) -> None:
        """Read the lines that it has printed."""
        if self._process.stdout is None:
            raise RuntimeError("it has no standard output")
        os.set_blocking(self._process.stdout.fileno(), False)
        self._unread += self._process.stdout.read() or b""
        *lines, self._unread = self._unread.split(b"\n")
        self.hears |= {int(line.removeprefix(b"hears ")) for line in lines}

    def send_command(self, command: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("it has no standard input")
        try:
            self._process.stdin.write(command.encode("ascii") + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"the traffic peer of {self.name} is gone: {self.trouble}") from None

    @property
    def trouble(self) -> str:
        """The end of its error output."""
        return self._log.read_text()[-2000:]

    def destroy(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Traffic:
    """All peers of a group; daemon n of the group has peer number n, from 1."""

    def __init__(self) -> None:
        self._peers: list[_Peer] = []
        self.counted_from = 0.0
        """Datagrams count from this time on, by `time.monotonic`: each peer has heard all others by then."""

    async def start(self, group: Group, within: float) -> None:
        """Start a peer on each node and wait until each hears all others. Raises Failed."""
        self._peers = [_Peer(daemon, number) for number, daemon in enumerate(group.daemons, 1)]
        everybody = {peer.number for peer in self._peers}
        deadline = time.monotonic() + within
        while True:
            for peer in self._peers:
                peer.listen()
                if peer.has_ended:
                    raise Failed(f"the traffic peer of {peer.name} has ended: {peer.trouble}")
            deaf = [f"{p.name} {sorted(everybody - p.hears)}" for p in self._peers if p.hears != everybody]
            if not deaf:
                break
            if time.monotonic() > deadline:
                raise Failed(f"no traffic within {within} s; not heard: {', '.join(deaf)}")
            await asyncio.sleep(0.02)
        self.counted_from = time.monotonic()

    async def finish(self) -> Mapping[str, Notes]:
        """End the traffic and return the notes of each node. Raises Failed."""
        for peer in self._peers:
            peer.send_command("hush")
        await asyncio.sleep(SETTLE)
        for peer in self._peers:
            peer.send_command("report")
        deadline = time.monotonic() + REPORT_WITHIN
        while not all(peer.has_ended for peer in self._peers):
            if time.monotonic() > deadline:
                raise Failed("a traffic peer does not report")
            await asyncio.sleep(0.02)
        if missing := [f"{p.name}: {p.trouble}" for p in self._peers if not p.report.exists()]:
            raise Failed(f"no report from the traffic peer of {'; '.join(missing)}")
        return {peer.name: Notes.read(peer.report) for peer in self._peers}

    def destroy(self) -> None:
        """End everything that still runs, also after an error."""
        for peer in self._peers:
            peer.destroy()
