"""Multicast DTLS 1.2 for session managers in Python; wolfSSL peers understand it, and it them."""

from pskkey.mcast.endpoint import MulticastEndpoint
from pskkey.mcast.join import GroupLeft, JoinedGroup, join
from pskkey.mcast.record import RecordProtection
from pskkey.mcast.replay import ReplayWindow
from pskkey.mcast.session import CannotSend, Drop, GroupSession, Message, Need

__all__ = [
    "CannotSend",
    "Drop",
    "GroupLeft",
    "GroupSession",
    "JoinedGroup",
    "Message",
    "MulticastEndpoint",
    "Need",
    "RecordProtection",
    "ReplayWindow",
    "join",
]
