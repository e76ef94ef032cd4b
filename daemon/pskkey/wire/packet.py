"""Messages to bytes and back: which packet may pass which door, in which direction and at what size.

              TLS-PSK                    keys.sock
              to server   to client      to server   to client
KEY_REQ       request     response       request     response
KEY_WATCH                                yes
KEY_STATE                 yes                        yes
KEY_ACK       yes                        yes
KEY_NEW       yes                        yes
JOIN          yes
GROUP                     yes
HEARTBEAT     yes         yes            yes         yes
MERGE         yes         yes
HANDOVER                  yes
ERROR         yes         yes            yes         yes
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from pskkey.errors import BadPacket
from pskkey.model import (
    ErrorMessage,
    Group,
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
from pskkey.wire import keymsg, membership
from pskkey.wire.frame import MAX_PAYLOAD, Frame, FrameReader, PacketType, encode_frame
from pskkey.wire.roster import RosterReader, encode_group, encode_handover


class Door(Enum):
    """Where a connection comes in."""

    TLS = "tls"
    KEYS = "keys"


class Side(Enum):
    """Which end of a connection we are: a server reads what clients send, and the other way round."""

    SERVER = "server"
    CLIENT = "client"


_BOTH_WAYS: Final[Mapping[int, int]] = {PacketType.HEARTBEAT: 0, PacketType.ERROR: membership.MAX_SIZE}
_FROM_ANY_CLIENT: Final[Mapping[int, int]] = {
    **_BOTH_WAYS,
    PacketType.KEY_REQ: 0,
    PacketType.KEY_ACK: keymsg.KEY_ACK_SIZE,
    PacketType.KEY_NEW: keymsg.KEY_NEW_SIZE,
}
_FROM_ANY_SERVER: Final[Mapping[int, int]] = {
    **_BOTH_WAYS,
    PacketType.KEY_REQ: keymsg.KEY_RESPONSE_MAX_SIZE,
    PacketType.KEY_STATE: keymsg.KEY_STATE_MAX_SIZE,
}
_LIMITS: Final[Mapping[tuple[Door, Side], Mapping[int, int]]] = {
    (Door.TLS, Side.SERVER): {
        **_FROM_ANY_CLIENT,
        PacketType.JOIN: membership.MAX_SIZE,
        PacketType.MERGE: membership.MAX_SIZE,
    },
    (Door.TLS, Side.CLIENT): {
        **_FROM_ANY_SERVER,
        PacketType.GROUP: MAX_PAYLOAD,
        PacketType.MERGE: membership.MAX_SIZE,
        PacketType.HANDOVER: MAX_PAYLOAD,
    },
    (Door.KEYS, Side.SERVER): {**_FROM_ANY_CLIENT, PacketType.KEY_WATCH: keymsg.KEY_WATCH_MAX_SIZE},
    (Door.KEYS, Side.CLIENT): _FROM_ANY_SERVER,
}


class PacketReader:
    """Turns the bytes that come on one connection into messages. `side` is our own end of it."""

    def __init__(self, door: Door, side: Side) -> None:
        self._side = side
        self._frames = FrameReader(_LIMITS[door, side])
        self._roster = RosterReader()
        self._broken = False

    @property
    def ready(self) -> bool:
        """Whether `next_untrusted` has something to do: the next frame is whole, or is to be refused."""
        return self._broken or self._frames.ready

    def add(self, data: bytes) -> None:
        """Take the next bytes, in pieces of any size. They are decoded one frame at a time by `next_untrusted`."""
        if not self._broken:
            self._frames.add(data)

    def next_untrusted(self) -> Message | None:
        """Decode the next frame and return the message that it completes.

        None: there is no whole frame, or it is not the last one of its message. Raises BadPacket when the peer breaks
        the protocol. The connection is of no use from there on: every later call raises again.
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

        Raises BadPacket as `next_untrusted` does; messages before the fault that came in the same piece are given up.
        """
        self.add(data)
        messages: list[Message] = []
        while self.ready:
            message = self.next_untrusted()
            if message is not None:
                messages.append(message)
        return messages

    def _decode_untrusted(self, frame: Frame) -> Message | None:
        packet_type = PacketType(frame.type)
        expected = self._roster.unfinished
        if expected is not None and packet_type is not expected:
            raise BadPacket(f"{packet_type.name} comes between the parts of a {expected.name}")
        try:
            return self._decode_payload_untrusted(packet_type, frame.payload)
        except BadPacket as error:
            raise BadPacket(f"bad {packet_type.name}: {error}") from None

    def _decode_payload_untrusted(self, packet_type: PacketType, payload: bytes) -> Message | None:
        match packet_type:
            case PacketType.KEY_REQ if self._side is Side.SERVER:
                return keymsg.decode_key_request_untrusted(payload)
            case PacketType.KEY_REQ:
                return keymsg.decode_key_response_untrusted(payload)
            case PacketType.KEY_WATCH:
                return keymsg.decode_key_watch_untrusted(payload)
            case PacketType.KEY_STATE:
                return keymsg.decode_key_state_untrusted(payload)
            case PacketType.KEY_ACK:
                return keymsg.decode_key_ack_untrusted(payload)
            case PacketType.KEY_NEW:
                return keymsg.decode_key_new_untrusted(payload)
            case PacketType.JOIN:
                return membership.decode_join_untrusted(payload)
            case PacketType.GROUP:
                return self._roster.receive_group_untrusted(payload)
            case PacketType.HEARTBEAT:
                return Heartbeat()  # its limit is 0, so there is nothing in it
            case PacketType.MERGE:
                return membership.decode_merge_untrusted(payload)
            case PacketType.HANDOVER:
                return self._roster.receive_handover_untrusted(payload)
            case PacketType.ERROR:
                return membership.decode_error_untrusted(payload)


def encode(message: Message) -> bytes:
    """Return the frame of a message; of a GROUP or HANDOVER too long for one frame, all its frames in a row.

    Raises ValueError for a value that is out of the bounds of its field.
    """
    match message:
        case KeyRequest():
            return encode_frame(PacketType.KEY_REQ, b"")
        case KeyResponse():
            return encode_frame(PacketType.KEY_REQ, keymsg.encode_key_response(message))
        case KeyWatch():
            return encode_frame(PacketType.KEY_WATCH, keymsg.encode_key_watch(message))
        case KeyState():
            return encode_frame(PacketType.KEY_STATE, keymsg.encode_key_state(message))
        case KeyAck():
            return encode_frame(PacketType.KEY_ACK, keymsg.encode_key_ack(message))
        case KeyNew():
            return encode_frame(PacketType.KEY_NEW, keymsg.encode_key_new(message))
        case Join():
            return encode_frame(PacketType.JOIN, membership.encode_join(message))
        case Group():
            return b"".join(encode_frame(PacketType.GROUP, part) for part in encode_group(message))
        case Heartbeat():
            return encode_frame(PacketType.HEARTBEAT, b"")
        case Merge():
            return encode_frame(PacketType.MERGE, membership.encode_merge(message))
        case Handover():
            return b"".join(encode_frame(PacketType.HANDOVER, part) for part in encode_handover(message))
        case ErrorMessage():
            return encode_frame(PacketType.ERROR, membership.encode_error(message))
