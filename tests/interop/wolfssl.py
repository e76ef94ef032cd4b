"""Debian's libwolfssl through ctypes: a multicast DTLS member that reads and writes datagrams in memory.

Real members run wolfSSL, so the tests compare our records with it. Package `libwolfssl-dev`.
"""

import ctypes
import ctypes.util
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from pskkey.model import Key

WANT_READ = -2
MAX_RECORD = 16384 + 64

_RECEIVE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_SEND = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

# name -> (result, arguments), as in <wolfssl/ssl.h> and <wolfssl/wolfio.h>.
_PROTOTYPES: dict[str, tuple[object, tuple[object, ...]]] = {
    "wolfSSL_Init": (ctypes.c_int, ()),
    "wolfDTLSv1_2_client_method": (ctypes.c_void_p, ()),
    "wolfSSL_CTX_new": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "wolfSSL_CTX_free": (None, (ctypes.c_void_p,)),
    "wolfSSL_CTX_mcast_set_member_id": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_ushort)),
    "wolfSSL_CTX_SetIORecv": (None, (ctypes.c_void_p, _RECEIVE)),
    "wolfSSL_CTX_SetIOSend": (None, (ctypes.c_void_p, _SEND)),
    "wolfSSL_new": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "wolfSSL_free": (None, (ctypes.c_void_p,)),
    "wolfSSL_dtls_set_using_nonblock": (None, (ctypes.c_void_p, ctypes.c_int)),
    "wolfSSL_mcast_peer_add": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_ushort, ctypes.c_int)),
    "wolfSSL_set_secret": (
        ctypes.c_int,
        (
            ctypes.c_void_p,
            ctypes.c_ushort,
            ctypes.c_char_p,
            ctypes.c_uint,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_char_p,
        ),
    ),
    "wolfSSL_write": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)),
    "wolfSSL_mcast_read": (
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.POINTER(ctypes.c_ushort), ctypes.c_char_p, ctypes.c_int),
    ),
    "wolfSSL_get_error": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)),
    "wolfSSL_lib_version": (ctypes.c_char_p, ()),
    "wolfSSL_DtlsUpdateWindow": (
        ctypes.c_int,
        (
            ctypes.c_ushort,
            ctypes.c_uint32,
            ctypes.POINTER(ctypes.c_ushort),
            ctypes.POINTER(ctypes.c_uint32),
            ctypes.POINTER(ctypes.c_uint32),
        ),
    ),
}


class WolfSSLError(Exception):
    """A wolfSSL function failed."""


class Opened(NamedTuple):
    """A plaintext that a wolfSSL member read, and its sender id."""

    sender_id: int
    plaintext: bytes


@cache
def load() -> ctypes.CDLL:
    """Return the initialized library. Raises WolfSSLError when it is not installed."""
    name = ctypes.util.find_library("wolfssl")
    if name is None:
        raise WolfSSLError("libwolfssl is not installed; on Debian: apt-get install libwolfssl-dev")
    library = ctypes.CDLL(name)
    for function, (result, arguments) in _PROTOTYPES.items():
        symbol = getattr(library, function)
        symbol.restype = result
        symbol.argtypes = arguments
    if library.wolfSSL_Init() != 1:
        raise WolfSSLError("wolfSSL_Init failed")
    return library


def version() -> str:
    """Return the version of the library, such as "5.5.4"."""
    text: bytes = load().wolfSSL_lib_version()
    return text.decode("ascii")


class WolfMember:
    """A wolfSSL member of a group, with one key, one epoch, one member id, and the ids of its peers.

    One datagram goes in or comes out at a time, without a socket.
    """

    def __init__(self, key: Key, epoch: int, member_id: int, peers: Iterable[int]) -> None:
        self._library = load()
        self._datagram_in: bytes | None = None
        self._datagram_out: bytes | None = None
        self._sender = ctypes.c_ushort()
        self._buffer = ctypes.create_string_buffer(MAX_RECORD)
        # wolfSSL keeps pointers to the callbacks: they must live as long as the context.
        self._receive_callback = _RECEIVE(self._on_receive)
        self._send_callback = _SEND(self._on_send)
        self._context = self._library.wolfSSL_CTX_new(self._library.wolfDTLSv1_2_client_method())
        if self._library.wolfSSL_CTX_mcast_set_member_id(self._context, member_id) != 1:
            raise WolfSSLError(f"member id {member_id} refused")
        # After the member id, which installs a receive callback of its own, for sockets.
        self._library.wolfSSL_CTX_SetIORecv(self._context, self._receive_callback)
        self._library.wolfSSL_CTX_SetIOSend(self._context, self._send_callback)
        self._ssl = self._library.wolfSSL_new(self._context)
        self._library.wolfSSL_dtls_set_using_nonblock(self._ssl, 1)
        # Before the secret: wolfSSL_set_secret starts the replay windows of the peers that it knows.
        for peer in peers:
            if self._library.wolfSSL_mcast_peer_add(self._ssl, peer, 0) != 1:
                raise WolfSSLError(f"peer {peer} refused")
        pms = key.pms.reveal()
        suite = key.suite.to_bytes(2)
        if (
            self._library.wolfSSL_set_secret(
                self._ssl, epoch, pms, len(pms), key.client_random, key.server_random, suite
            )
            != 1
        ):
            raise WolfSSLError(f"the secret for epoch {epoch} and suite {suite.hex()} was refused")

    def close(self) -> None:
        """Free the session, without an alert."""
        self._library.wolfSSL_free(self._ssl)
        self._library.wolfSSL_CTX_free(self._context)

    def seal(self, plaintext: bytes) -> bytes:
        """Return the datagram that wolfSSL_write sends."""
        self._datagram_out = None
        written = self._library.wolfSSL_write(self._ssl, plaintext, len(plaintext))
        if written != len(plaintext) or self._datagram_out is None:
            raise WolfSSLError(f"wolfSSL_write: error {self._library.wolfSSL_get_error(self._ssl, written)}")
        return self._datagram_out

    def open(self, datagram: bytes) -> Opened | None:
        """Return the plaintext that wolfSSL_mcast_read gets from a datagram, or None when it drops the datagram."""
        self._datagram_in = datagram
        size = self._library.wolfSSL_mcast_read(self._ssl, self._sender, self._buffer, MAX_RECORD)
        if size <= 0:
            return None
        return Opened(self._sender.value, ctypes.string_at(self._buffer, size))

    def _on_receive(self, _ssl: int, buffer: int, size: int, _context: int) -> int:
        datagram, self._datagram_in = self._datagram_in, None
        if datagram is None:
            return WANT_READ
        taken = min(len(datagram), size)
        ctypes.memmove(buffer, datagram, taken)
        return taken

    def _on_send(self, _ssl: int, buffer: int, size: int, _context: int) -> int:
        self._datagram_out = ctypes.string_at(buffer, size)
        return size


class WolfWindow:
    """wolfSSL's replay window. Only `wolfSSL_DtlsUpdateWindow` changes its state."""

    SIZE = 64

    def __init__(self) -> None:
        self._library = load()
        self._next_high = ctypes.c_ushort()
        self._next_low = ctypes.c_uint32()
        self._window = (ctypes.c_uint32 * 2)()

    def check(self, sequence: int) -> bool:
        """Whether wolfSSL would accept a record. This copies its `DtlsCheckWindow`, which is not exported."""
        behind = (self._next_high.value << 32 | self._next_low.value) - 1 - sequence
        if behind < 0:
            return True
        if behind >= self.SIZE:
            return False
        return not self._window[behind // 32] >> behind % 32 & 1

    def update(self, sequence: int) -> None:
        """Mark a 48-bit sequence number as received in wolfSSL's window."""
        self._library.wolfSSL_DtlsUpdateWindow(
            sequence >> 32, sequence & 0xFFFF_FFFF, self._next_high, self._next_low, self._window
        )
