"""A journal of the test: the receiver of the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

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
    """A real datagram socket at `path`. `read` takes the waiting entries; `followed` takes each entry at once."""

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
        """Yield a list that grows by each entry. At the end of the block it has all entries that arrived before.

        A thread reads the socket. Few datagrams fit into it (net.unix.max_dgram_qlen), and a daemon drops its lines
        while the socket is full, so they must not wait for the test.
        """
        entries: list[Entry] = []
        stop_sender, stop_receiver = socket.socketpair()

        def follow() -> None:
            sockets = [self._socket, stop_receiver]
            while stop_receiver not in (ready := select.select(sockets, [], [])[0]) or self._socket in ready:
                entries.extend(self.read())

        with stop_sender, stop_receiver, ThreadPoolExecutor(1) as thread:
            following = thread.submit(follow)
            try:
                yield entries
            finally:
                stop_sender.close()
            following.result()

    def read(self) -> list[Entry]:
        """Return the entries since the last call."""
        new = []
        while True:
            try:
                new.append(self._socket.recv(1 << 20))
            except BlockingIOError:
                self.datagrams += new
                return [parse(datagram) for datagram in new]


def parse(datagram: bytes) -> Entry:
    """Return the fields of a datagram. Fails on a field that it has twice, and on bytes that are no field."""
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
        assert not text.startswith("_"), "only the journal itself adds such fields"
        assert text not in entry
        entry[text] = value.decode()
    return entry
