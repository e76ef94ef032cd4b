"""The journal's end of its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), played by the test."""

import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

type Entry = dict[str, str]


class JournalSocket:
    """A real datagram socket at `path`; what came is read when it is asked for, or `followed`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self.datagrams: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self.path.unlink()

    @contextmanager
    def followed(self) -> Iterator[list[Entry]]:
        """Give the entries as they come, and at the end of the block those that came before it.

        They are taken by a thread of its own: not many wait in a socket (net.unix.max_dgram_qlen), and who writes to
        one that is full drops its lines, so they may not wait for what else the test does.
        """
        said: list[Entry] = []
        ours, theirs = socket.socketpair()

        def follow() -> None:
            while theirs not in (ready := select.select([self._socket, theirs], [], [])[0]) or self._socket in ready:
                said.extend(self.read())

        with ours, theirs, ThreadPoolExecutor(1) as thread:
            following = thread.submit(follow)
            try:
                yield said
            finally:
                ours.close()
            following.result()

    def read(self) -> list[Entry]:
        """Return the entries that came since it was read last."""
        new = []
        while True:
            try:
                new.append(self._socket.recv(1 << 20))
            except BlockingIOError:
                self.datagrams += new
                return [parse(datagram) for datagram in new]


def parse(datagram: bytes) -> Entry:
    """Return the fields of a datagram, each of which stands in it once; fail on anything that is no field."""
    entry: Entry = {}
    rest = datagram
    while rest:
        line, newline, rest = rest.partition(b"\n")
        assert newline, "each field ends with a newline"
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert len(value) == size
            assert rest[:1] == b"\n"
            rest = rest[1:]
        text = name.decode("ascii")
        assert text.replace("_", "").isalnum()
        assert text.isupper()
        assert not text.startswith("_"), "those are the journal's own"
        assert text not in entry
        entry[text] = value.decode()
    return entry
