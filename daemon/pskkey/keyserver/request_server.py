"""The stand-alone key server: it answers every client, and has no group."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.tls.connection import TlsConnection
from pskkey.adapters.tls.listener import ServerLimits, TlsListener
from pskkey.config.psk import PskFile
from pskkey.model import ErrorMessage, Key, KeyResponse
from pskkey.wire.frame import HEADER_SIZE, MAX_PAYLOAD, VERSION, Frame, FrameReader, PacketType, encode_frame
from pskkey.wire.packet import encode

_BUSY = ErrorMessage("busy", "the key server has no place for another connection from this address")
_FAILED = ErrorMessage("handler_failed", "the key server could not answer this request; its log has the reason")
_log = logging.getLogger("pskkey.server")

RESERVED_TYPES = frozenset({PacketType.KEY_REQ, PacketType.ERROR})
"""Types that no handler may have: that of the key, and that of our errors."""


class RequestServer:
    """Answers KEY_REQ with `key`, and the types of `handlers` with their results.

    A handler takes the payload of the request and returns that of the answer, at most 65535 bytes each. It blocks the
    event loop while it runs. `report` gets a line for each connection, request and response, without payloads. Raises
    ValueError when a handler is for a type that is reserved or out of range.
    """

    def __init__(
        self,
        psk: PskFile,
        key: Key,
        legacy_clients: bool,
        handlers: Mapping[int, Callable[[bytes], bytes]],
        report: Callable[[str], None],
    ) -> None:
        for request_type in handlers:
            if request_type in RESERVED_TYPES or not 0 <= request_type <= 0xFF:
                raise ValueError(f"a handler is for a type 0..255 except {sorted(RESERVED_TYPES)}, not {request_type}")
        self._key = key
        self._handlers = dict(handlers)
        self._report = report
        self._sizes = {PacketType.KEY_REQ: 0} | dict.fromkeys(handlers, MAX_PAYLOAD)
        counters: Counter[str] = Counter()
        self._listener = TlsListener(
            lambda: psk, legacy_clients, ServerLimits(), self, encode(_BUSY), counters, SocketOptions(counters)
        )
        self._readers: dict[TlsConnection, FrameReader] = {}

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """IP address and port of each listening socket."""
        return self._listener.addresses

    async def start(self, addresses: Sequence[str], port: int) -> None:
        """Listen; see `TlsListener.start`."""
        await self._listener.start(addresses, port)

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        await self._listener.stop()

    def opened(self, connection: TlsConnection) -> None:
        """Begin with a client that has proved that it holds a PSK of ours."""
        self._readers[connection] = FrameReader(self._sizes)
        self._report(f"Connection from {connection.address}, port {connection.port}")

    def received(self, connection: TlsConnection, data: bytes) -> None:
        """Handle bytes of a client. Raises BadPacket when they break the protocol."""
        for frame in self._readers[connection].receive_untrusted(data):
            if connection.ending:
                return
            if frame.type not in self._sizes:
                continue  # an optional packet of a later version
            self._report(_line("Request", frame.type, len(frame.payload)))
            answer = self._answer(frame)
            if answer is None:
                connection.write(encode(_FAILED))
                connection.close("a handler failed")
                return
            # The line comes first, so that a client with the answer finds it.
            self._report(_line("Response", frame.type, len(answer) - HEADER_SIZE))
            connection.write(answer)

    def lost(self, connection: TlsConnection, reason: str) -> None:
        """Forget a client whose connection has ended."""
        del self._readers[connection]
        _log.debug("The connection from %s ended: %s", connection.address, reason)

    def _answer(self, frame: Frame) -> bytes | None:
        if frame.type == PacketType.KEY_REQ:
            return encode(KeyResponse(self._key))
        try:
            return encode_frame(frame.type, self._handlers[frame.type](frame.payload))
        except Exception:  # noqa: BLE001  the user's code; it must not end other clients' connections
            _log.exception("The handler of request type %d failed", frame.type)
            return None


def _line(what: str, packet_type: int, size: int) -> str:
    return f"{what}: Version {VERSION}, Cmd {packet_type}, Size {size}"
