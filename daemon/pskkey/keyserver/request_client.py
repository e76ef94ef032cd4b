"""One request to a key server and its answer, blocking, for scripts."""

import socket
import ssl
import time

from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.tls.contexts import (
    client_context,
    explain_server_failure,
    is_like_legacy_server,
    legacy_server_context,
    require_psk,
)
from pskkey.adapters.tls.tcp_errors import explain_connect_failure
from pskkey.adapters.tls.tcp_options import TCP_OPTIONS
from pskkey.config.psk import Psk
from pskkey.errors import BadPacket, HandshakeError, NoAnswer, PeerError, Unreachable
from pskkey.rtnetlink.socket_address import Target, find_socket_address
from pskkey.wire.frame import MAX_PAYLOAD, FrameReader, PacketType, encode_frame
from pskkey.wire.membership import MAX_SIZE as MAX_ERROR_SIZE
from pskkey.wire.membership import decode_error_untrusted

_READ_SIZE = 65536
_LEGACY_HINT = "; an older C key server needs --legacy-server (in Python: legacy_server=True)"


def request(
    address: str,
    port: int,
    psk: Psk,
    request_type: int,
    payload: bytes,
    *,
    timeout: float,
    bind: str | None,
    options: SocketOptions,
    legacy_server: bool,
) -> bytes:
    """Send one request to the key server at a host name or IP address and return the payload of its answer.

    The request takes at most `timeout` seconds, without the look-up of a name, which the system bounds. `bind` is the
    local IP address to connect from. `options` sets those of the connection. `legacy_server` speaks TLS 1.2 with a
    plain PSK, as older C key servers do, instead of TLS 1.3. Raises Unreachable, HandshakeError, NoAnswer, PeerError
    (the server sent an ERROR) or BadPacket, each with one sentence.
    """
    deadline = time.monotonic() + timeout
    question = encode_frame(request_type, payload)
    target = f"{address}, port {port}"
    with _connect(address, port, deadline, bind, options) as connected:
        try:
            connected.settimeout(_remaining(deadline))
            context = legacy_server_context(psk) if legacy_server else client_context(psk)
            with context.wrap_socket(connected) as session:
                require_psk(session, legacy_server)
                return _ask(session, question, request_type, target, deadline)
        except HandshakeError as error:
            raise HandshakeError(f"{target}: {error}") from None
        except TimeoutError:
            raise NoAnswer(f"{target}: it accepted the connection but sent no TLS within {timeout:g} s") from None
        except OSError as error:
            cause = explain_server_failure(error, psk.identity, legacy_server)
            hint = "" if legacy_server or not is_like_legacy_server(error) else _LEGACY_HINT
            raise HandshakeError(f"{target}: {cause}{hint}") from None


def _connect(address: str, port: int, deadline: float, bind: str | None, options: SocketOptions) -> socket.socket:
    """Return a connection to the first address of the name that accepts one."""
    own = None if bind is None else _find_own(bind)
    found = [each for each in look_up(address, port) if own is None or each[0] == own[0]]
    if not found:
        raise Unreachable(f"{address} cannot be reached from {bind}: they have no common IP version")
    failure: Exception = TimeoutError()
    for left, (family, target) in zip(range(len(found), 0, -1), found, strict=True):
        try:
            connected = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # no file descriptor is left, or this machine has no IPv6
            failure = error
            continue
        try:
            connected.settimeout(_remaining(deadline) / left)
            options.set(connected, *TCP_OPTIONS)
            if own is not None:
                connected.bind(own[1])
            connected.connect(target)
        except OSError as error:
            connected.close()
            failure = error
        else:
            return connected
    raise Unreachable(f"{address}, port {port}: {explain_connect_failure(failure)}") from None


def look_up(address: str, port: int) -> list[tuple[socket.AddressFamily, Target]]:
    """Return the socket addresses of an IP address or a host name, the best first. Raises Unreachable."""
    try:
        return [find_socket_address(address, port)]
    except socket.gaierror:
        pass  # it may be a host name
    except OSError as error:
        raise Unreachable(f"{address}: {error.strerror}") from None
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable(f"{address!r} is neither an IP address nor a host name known here") from None
    return [(family, target) for family, _, _, _, target in found]


def _find_own(bind: str) -> tuple[socket.AddressFamily, Target]:
    """Return the socket address to connect from. Raises Unreachable."""
    try:
        return find_socket_address(bind, 0)
    except socket.gaierror:
        raise Unreachable(f"cannot connect from {bind!r}: it is not an IP address; give one of this machine") from None
    except OSError as error:
        raise Unreachable(f"cannot connect from {bind}: {error.strerror}") from None


def _ask(session: ssl.SSLSocket, question: bytes, request_type: int, target: str, deadline: float) -> bytes:
    reader = FrameReader({PacketType.ERROR: MAX_ERROR_SIZE, request_type: MAX_PAYLOAD})
    try:
        session.settimeout(_remaining(deadline))
        session.sendall(question)
        while True:
            session.settimeout(_remaining(deadline))
            data = session.recv(_READ_SIZE)
            if not data:
                raise NoAnswer(f"{target}: it closed the connection without an answer to request type {request_type}")
            for frame in reader.receive_untrusted(data):
                if frame.type == request_type:
                    return frame.payload
                if frame.type != PacketType.ERROR:
                    continue  # an optional packet of a later version
                refusal = decode_error_untrusted(frame.payload)
                raise PeerError(refusal.code, f"{target}: it refused: {refusal.message}")
    except BadPacket as error:
        raise BadPacket(f"{target}: it does not speak our protocol: {error}") from None
    except TimeoutError:
        raise NoAnswer(f"{target}: it did not answer request type {request_type} in time") from None
    except OSError:
        raise NoAnswer(f"{target}: the connection broke before request type {request_type} was answered") from None


def _remaining(deadline: float) -> float:
    """Return the seconds left. Raises TimeoutError when there are none: a time-out of 0 would not block at all."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
