"""TLS-PSK on a socket by Debian's libwolfssl, through ctypes. Key clients and key servers in C use this library."""

import ctypes
import ctypes.util
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pskkey.config.psk import Psk

_CLIENT_KEY = ctypes.CFUNCTYPE(
    ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint
)
_SERVER_KEY = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint)

# name -> (result, arguments), as in <wolfssl/ssl.h>.
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wolfSSL_Init": (ctypes.c_int, ()),
    "wolfTLSv1_2_client_method": (ctypes.c_void_p, ()),
    "wolfTLSv1_3_client_method": (ctypes.c_void_p, ()),
    "wolfTLSv1_3_server_method": (ctypes.c_void_p, ()),
    "wolfSSL_CTX_new": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "wolfSSL_CTX_free": (None, (ctypes.c_void_p,)),
    "wolfSSL_CTX_set_cipher_list": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)),
    "wolfSSL_CTX_set_psk_client_callback": (None, (ctypes.c_void_p, _CLIENT_KEY)),
    "wolfSSL_CTX_set_psk_server_callback": (None, (ctypes.c_void_p, _SERVER_KEY)),
    "wolfSSL_new": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "wolfSSL_free": (None, (ctypes.c_void_p,)),
    "wolfSSL_set_fd": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)),
    "wolfSSL_connect": (ctypes.c_int, (ctypes.c_void_p,)),
    "wolfSSL_accept": (ctypes.c_int, (ctypes.c_void_p,)),
    "wolfSSL_get_error": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)),
    "wolfSSL_get_cipher": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "wolfSSL_write": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)),
    "wolfSSL_read": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)),
}


class WolfSSLError(Exception):
    """A wolfSSL function failed."""


class Session:
    """An open TLS session."""

    def __init__(self, library: ctypes.CDLL, session: int) -> None:
        self._library = library
        self._session = session

    @property
    def cipher(self) -> str:
        """The cipher suite, by wolfSSL's name."""
        return str(self._library.wolfSSL_get_cipher(self._session).decode())

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        if self._library.wolfSSL_write(self._session, data, len(data)) != len(data):
            raise WolfSSLError("wolfSSL_write failed")

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        data = b""
        while len(data) < size:
            buffer = ctypes.create_string_buffer(size - len(data))
            count = self._library.wolfSSL_read(self._session, buffer, len(buffer))
            if count <= 0:
                raise WolfSSLError(f"wolfSSL_read failed after {len(data)} bytes")
            data += buffer.raw[:count]
        return data


@contextmanager
def client(connected: socket.socket, psk: Psk, method: str, cipher: str) -> Iterator[Session]:
    """Do a client's handshake; `method` is `wolfTLSv1_2_client_method` or that of 1.3."""

    def give(_ssl: int, _hint: bytes, identity: int, _identity_max: int, key: int, _key_max: int) -> int:
        name = psk.identity.encode() + b"\0"
        ctypes.memmove(identity, name, len(name))
        ctypes.memmove(key, psk.key.reveal(), len(psk.key))
        return len(psk.key)

    callback = _CLIENT_KEY(give)
    with _session(connected, method, cipher, callback, "client", "wolfSSL_connect") as session:
        yield session


@contextmanager
def server(connected: socket.socket, psk: Psk, cipher: str) -> Iterator[Session]:
    """Do a server's handshake, in TLS 1.3."""

    def give(_ssl: int, identity: bytes, key: int, _key_max: int) -> int:
        if identity != psk.identity.encode():
            return 0
        ctypes.memmove(key, psk.key.reveal(), len(psk.key))
        return len(psk.key)

    callback = _SERVER_KEY(give)
    with _session(connected, "wolfTLSv1_3_server_method", cipher, callback, "server", "wolfSSL_accept") as session:
        yield session


@contextmanager
def _session(
    connected: socket.socket, method: str, cipher: str, callback: object, side: str, handshake: str
) -> Iterator[Session]:
    library = _load()
    context = library.wolfSSL_CTX_new(getattr(library, method)())
    if library.wolfSSL_CTX_set_cipher_list(context, cipher.encode()) != 1:
        raise WolfSSLError(f"cipher {cipher} refused")
    getattr(library, f"wolfSSL_CTX_set_psk_{side}_callback")(context, callback)
    session = library.wolfSSL_new(context)
    try:
        library.wolfSSL_set_fd(session, connected.fileno())
        result = getattr(library, handshake)(session)
        if result != 1:
            raise WolfSSLError(f"{handshake} failed with {library.wolfSSL_get_error(session, result)}")
        yield Session(library, session)
    finally:
        library.wolfSSL_free(session)
        library.wolfSSL_CTX_free(context)


@cache
def _load() -> ctypes.CDLL:
    name = ctypes.util.find_library("wolfssl")
    if name is None:
        raise WolfSSLError("libwolfssl is not installed; on Debian: apt-get install libwolfssl-dev")
    library = ctypes.CDLL(name)
    for function, (result, arguments) in _PROTOTYPES.items():
        symbol = getattr(library, function)
        symbol.restype, symbol.argtypes = result, arguments
    if library.wolfSSL_Init() != 1:
        raise WolfSSLError("wolfSSL_Init failed")
    return library
