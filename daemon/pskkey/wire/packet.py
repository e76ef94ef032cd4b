"""Messages to bytes and back. `_PACKETS` lists the channels, the direction and the size of each."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from pskkey.errors import BadPacket, NoCommonLevel
from pskkey.model import (
    ErrorMessage,
    Group,
    GroupChange,
    Handover,
    Heartbeat,
    Join,
    KeyAck,
    KeyNew,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Merge,
    Message,
)
from pskkey.wire import keymsg, membership, roster
from pskkey.wire.frame import MAX_PAYLOAD, Frame, FrameReader, PacketType, encode_frame


class Channel(Enum):
    """The channel of a connection: TLS between nodes, or `keys.sock`."""

    TLS = "tls"
    KEYS = "keys"


class Side(Enum):
    """Our end of a connection: a server reads what clients send, a client reads what servers send."""

    SERVER = "server"
    CLIENT = "client"


_TLS_SERVER: Final = frozenset({(Channel.TLS, Side.SERVER)})
_TLS_CLIENT: Final = frozenset({(Channel.TLS, Side.CLIENT)})
_KEYS_SERVER: Final = frozenset({(Channel.KEYS, Side.SERVER)})
_SERVERS: Final = _TLS_SERVER | _KEYS_SERVER
_CLIENTS: Final = _TLS_CLIENT | {(Channel.KEYS, Side.CLIENT)}


class _Packet(NamedTuple):
    """A type of packet, and the ends of connections that may receive it."""

    message: type[Message]
    type: PacketType
    receivers: frozenset[tuple[Channel, Side]]
    limit: int
    """Bytes of payload."""
    encode: Callable[[Any], bytes | list[bytes]]
    """Returns the payload, or the payloads of several frames."""
    decode: Callable[[bytes], Message] | None
    """None: a message of several frames, which a `RosterReader` puts together."""


_PACKETS: Final[Sequence[_Packet]] = (
    _Packet(KeyRequest, PacketType.KEY_REQ, _SERVERS, 0, lambda _: b"", keymsg.decode_key_request_untrusted),
    _Packet(
        KeyResponse,
        PacketType.KEY_REQ,
        _CLIENTS,
        keymsg.KEY_RESPONSE_MAX_SIZE,
        keymsg.encode_key_response,
        keymsg.decode_key_response_untrusted,
    ),
    _Packet(
        KeyWatch,
        PacketType.KEY_WATCH,
        _KEYS_SERVER,
        keymsg.KEY_WATCH_MAX_SIZE,
        keymsg.encode_key_watch,
        keymsg.decode_key_watch_untrusted,
    ),
    _Packet(
        KeyState,
        PacketType.KEY_STATE,
        _CLIENTS,
        keymsg.KEY_STATE_MAX_SIZE,
        keymsg.encode_key_state,
        keymsg.decode_key_state_untrusted,
    ),
    _Packet(
        KeyAck,
        PacketType.KEY_ACK,
        _SERVERS,
        keymsg.KEY_ACK_SIZE,
        keymsg.encode_key_ack,
        keymsg.decode_key_ack_untrusted,
    ),
    _Packet(
        KeyNew,
        PacketType.KEY_NEW,
        _SERVERS,
        keymsg.KEY_NEW_SIZE,
        keymsg.encode_key_new,
        keymsg.decode_key_new_untrusted,
    ),
    _Packet(
        Join,
        PacketType.JOIN,
        _TLS_SERVER,
        membership.MAX_SIZE,
        membership.encode_join,
        membership.decode_join_untrusted,
    ),
    _Packet(Group, PacketType.GROUP, _TLS_CLIENT, MAX_PAYLOAD, roster.encode_group, None),
    _Packet(GroupChange, PacketType.GROUP_CHANGE, _TLS_CLIENT, MAX_PAYLOAD, roster.encode_group_change, None),
    _Packet(Heartbeat, PacketType.HEARTBEAT, _SERVERS | _CLIENTS, 0, lambda _: b"", lambda _: Heartbeat()),
    _Packet(
        Merge,
        PacketType.MERGE,
        _TLS_SERVER | _TLS_CLIENT,
        membership.MAX_SIZE,
        membership.encode_merge,
        membership.decode_merge_untrusted,
    ),
    _Packet(Handover, PacketType.HANDOVER, _TLS_CLIENT, MAX_PAYLOAD, roster.encode_handover, None),
    _Packet(
        ErrorMessage,
        PacketType.ERROR,
        _SERVERS | _CLIENTS,
        membership.MAX_SIZE,
        membership.encode_error,
        membership.decode_error_untrusted,
    ),
)

_BY_MESSAGE: Final = {packet.message: packet for packet in _PACKETS}
_RECEIVED: Final = {
    (channel, side): {packet.type: packet for packet in _PACKETS if (channel, side) in packet.receivers}
    for channel in Channel
    for side in Side
}

_LIMITS: Final[dict[tuple[Channel, Side], dict[int, int]]] = {
    receiver: {packet.type: packet.limit for packet in packets.values()} for receiver, packets in _RECEIVED.items()
}


class PacketReader:
    """Turns the bytes that come on one connection into messages. `side` is our own end of it."""

    def __init__(self, channel: Channel, side: Side) -> None:
        self._packets = _RECEIVED[channel, side]
        self._frames = FrameReader(_LIMITS[channel, side])
        self._roster = roster.RosterReader()
        self._decode_part = {
            PacketType.GROUP: self._roster.receive_group_untrusted,
            PacketType.GROUP_CHANGE: self._roster.receive_change_untrusted,
            PacketType.HANDOVER: self._roster.receive_handover_untrusted,
        }
        self._broken = False

    @property
    def ready(self) -> bool:
        """Whether `next_untrusted` has something to do: the next frame is whole, or must be refused."""
        return self._broken or self._frames.ready

    def add(self, data: bytes) -> None:
        """Take the next bytes, in pieces of any size. They are decoded one frame at a time by `next_untrusted`."""
        if not self._broken:
            self._frames.add(data)

    def next_untrusted(self) -> Message | None:
        """Decode the next frame and return the message that it completes.

        None: there is no whole frame, or it is not the last one of its message, or it is optional and of an unknown
        type. Raises BadPacket when the peer breaks the protocol. The connection is of no use from there on: every later
        call raises again.
        """
        if self._broken:
            raise BadPacket("the connection was given up after a bad packet")
        try:
            frame = self._frames.next_untrusted()
            return None if frame is None else self._decode_untrusted(frame)
        except BadPacket:
            self._broken = True
            raise

    def receive_untrusted(self, data: bytes) -> list[Message]:
        """Take the next bytes and return all messages that they complete.

        Raises BadPacket as `next_untrusted` does; messages that came before the fault in the same piece are lost.
        """
        self.add(data)
        messages: list[Message] = []
        while self.ready:
            message = self.next_untrusted()
            if message is not None:
                messages.append(message)
        return messages

    def _decode_untrusted(self, frame: Frame) -> Message | None:
        if frame.type not in self._packets:
            return None  # an optional packet of a later version
        packet_type = PacketType(frame.type)
        expected = self._roster.unfinished
        if expected is not None and packet_type is not expected:
            raise BadPacket(f"{packet_type.name} comes between the parts of a {expected.name}")
        decode = self._packets[packet_type].decode or self._decode_part[packet_type]
        try:
            return decode(frame.payload)
        except NoCommonLevel:
            raise
        except BadPacket as error:
            raise BadPacket(f"bad {packet_type.name}: {error}") from None


def encode(message: Message) -> bytes:
    """Return the frame of a message; of a GROUP or HANDOVER too long for one frame, all its frames in a row.

    Raises ValueError for a value that is out of the bounds of its field.
    """
    packet = _BY_MESSAGE[type(message)]
    payload = packet.encode(message)
    if isinstance(payload, bytes):
        return encode_frame(packet.type, payload)
    return b"".join([encode_frame(packet.type, each) for each in payload])
