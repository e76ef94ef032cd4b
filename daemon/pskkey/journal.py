"""What the daemon tells an operator: the one table of its events, and how they get into the log.

Under systemd's journal each event has the MESSAGE_ID of its row, by which it can be found whatever its sentence says
(`journalctl MESSAGE_ID=...`), and structured fields. Each has PSKKEY_GROUP, PSKKEY_NODE, PSKKEY_ROLE, PSKKEY_TERM and,
once there is a key, PSKKEY_EPOCH, as they are after the event; further ones stand in its row. A row's MESSAGE_ID is
never changed and never used for anything else; its fields stand there without PSKKEY_ and in small letters.
"""

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from logging import ERROR, INFO, WARNING
from typing import Final, NamedTuple

from pskkey.core.actions import NoticeKind
from pskkey.log_budget import Cause

type Fields = Mapping[str, str | int | None]
"""Names without PSKKEY_ in front, in small letters, as the core's notices have them. None: no such field."""

_log = logging.getLogger("pskkey")


class DaemonEvent(StrEnum):
    """What happens to the daemon as a whole; `NoticeKind` is what happens to its node."""

    STARTED = "started"
    STOPPED = "stopped"
    START_FAILED = "start_failed"
    PORT_TAKEN = "port_taken"
    RELOADED = "reloaded"
    RELOAD_FAILED = "reload_failed"
    RESTART_NEEDED = "restart_needed"
    ALONE = "alone"
    COMMANDED = "commanded"
    COMMAND_DENIED = "command_denied"


class Entry(NamedTuple):
    """A row: the MESSAGE_ID (128 bits in hex), the level, what happened, and the fields besides those that all have."""

    message_id: str
    level: int
    meaning: str
    fields: str = ""


EVENTS: Final[Mapping[NoticeKind | DaemonEvent, Entry]] = {
    NoticeKind.ROLE_CHANGED: Entry("2d59f10e830b4086b0ad8ebbfd495d91", INFO, "The node's role in its group changed"),
    NoticeKind.ELECTED: Entry("9b19c27c040943cb8f19337dd835fe8b", INFO, "This node became the master"),
    NoticeKind.MASTER_JOINED: Entry("e00e8624a26247859742fa0b556abb9b", INFO, "This node joined a master", "peer"),
    NoticeKind.MASTER_LOST: Entry(
        "d10eb36800f540b795668c395c526b6c", WARNING, "The session with the master ended", "peer code"
    ),
    NoticeKind.JOIN_FAILED: Entry(
        "1c4b208b315f41ca90323c2097293c49", WARNING, "A master or successor could not be joined", "peer code"
    ),
    NoticeKind.MEMBER_JOINED: Entry(
        "834ee85d97864982b9a6b5ba22d9984f", INFO, "A node joined us, the master", "peer address"
    ),
    NoticeKind.MEMBER_LOST: Entry("c03892fb301a436eb42a26b58eae3d8e", INFO, "A member of ours left or died", "peer"),
    NoticeKind.MEMBER_REFUSED: Entry(
        "a4200b2f53464bb8b5636f98bfc88c2a", WARNING, "A node was refused as a member", "peer"
    ),
    NoticeKind.KEY_WANTED: Entry("6b15ef1b29de41519d322c4ae933c0ad", INFO, "A new key was asked for", "peer"),
    NoticeKind.KEY_ROLLED: Entry(
        "ed03eb460c314e15bdb213bd20cfa108", INFO, "A new key is being distributed; PSKKEY_EPOCH is its epoch"
    ),
    NoticeKind.KEY_CHANGED: Entry(
        "284a1fc8f2d0450ea7924ce6869d01cf", INFO, "Another key is sent with; PSKKEY_EPOCH is its epoch"
    ),
    NoticeKind.TWO_MASTERS: Entry("a32e320d5af34ee08523ebb69e72a884", WARNING, "This master met another one", "peer"),
    NoticeKind.MERGED: Entry(
        "526317952f1a47fdb48e8ea2d91e6ea1", INFO, "Two masters agreed which of them stays", "peer winner"
    ),
    NoticeKind.HANDED_OVER: Entry(
        "d0627284ee65429da94211ee313740f4", INFO, "This master hands its part over to a member", "peer"
    ),
    NoticeKind.FENCED: Entry(
        "e1b8512cc3044c089a2d75eca0361fe6",
        WARNING,
        "A master of an old term was not followed; PSKKEY_TERM is that term",
        "peer",
    ),
    NoticeKind.SLEPT: Entry(
        "c515644caa5a463591d98b03840d790d", WARNING, "This node did not run for so long that it was surely replaced"
    ),
    NoticeKind.DUPLICATE_ID: Entry(
        "414587ea03784760970d78ada23e9c68",
        ERROR,
        "Another node has this node's id, or two members have the same",
        "peer",
    ),
    NoticeKind.SECOND_SENDER: Entry(
        "733ba8a8cb0d446bbc0ab8f985dfdc91", WARNING, "A second local session manager wants to send", "pid"
    ),
    NoticeKind.SENDER_ID_TAKEN: Entry(
        "6b37abcdf6d1478a85f2af8ca500cbd8", WARNING, "A configured sender id is another node's", "peer sender_id"
    ),
    NoticeKind.NO_SENDER_ID: Entry(
        "37eaec45224a4a28be0c62af38b048b6", WARNING, "A node got no sender id: all 256 are in use", "peer"
    ),
    NoticeKind.PROTOCOL_ERROR: Entry(
        "2d3cc79610a943d5a83881dc6e4b64e0", WARNING, "A peer or a consumer broke the protocol"
    ),
    DaemonEvent.STARTED: Entry("f635cbe98e4544ca95531f2a00a35ca1", INFO, "The daemon is ready"),
    DaemonEvent.STOPPED: Entry("769bd86d1ded4cce9294c01f1c9e02d8", INFO, "The daemon ends as it was asked to"),
    DaemonEvent.START_FAILED: Entry(
        "3310d2061898494681ea0a99e1cb1374", ERROR, "The daemon cannot run with this configuration or on this machine"
    ),
    DaemonEvent.PORT_TAKEN: Entry(
        "300cee5875fd4b85b1293b55c4326df1",
        ERROR,
        "Another program has the TCP port of the key server; this node cannot be master",
    ),
    DaemonEvent.RELOADED: Entry(
        "cd6851b6204b43878172751e8ec280f3", INFO, "Configuration and PSK file were read again and apply"
    ),
    DaemonEvent.RELOAD_FAILED: Entry(
        "6c32a3065e814fd99c67dfece3585419", ERROR, "Configuration or PSK file has a mistake; nothing of it applies"
    ),
    DaemonEvent.RESTART_NEEDED: Entry(
        "6cb26c65dd9642bc91d8fabc819ceb45", WARNING, "A changed setting applies only after a restart", "setting"
    ),
    DaemonEvent.ALONE: Entry(
        "77f8677c2af041408bf27c04e6c55d72", WARNING, "No other node can be found: no interface, or no address"
    ),
    DaemonEvent.COMMANDED: Entry(
        "360b46d3dd9047b59df96698b311340d",
        INFO,
        "An administrator gave a command, with PSKKEY_CODE if it cannot be done",
        "uid pid command code",
    ),
    DaemonEvent.COMMAND_DENIED: Entry(
        "3250bc4db9fb4ccea63eb8250eb4810a",
        WARNING,
        "Somebody who is no administrator gave a command",
        "uid pid command",
    ),
}

_OF_OTHERS: Final = frozenset(
    {
        NoticeKind.JOIN_FAILED,
        NoticeKind.MEMBER_JOINED,
        NoticeKind.MEMBER_LOST,
        NoticeKind.MEMBER_REFUSED,
        NoticeKind.KEY_WANTED,
        NoticeKind.TWO_MASTERS,
        NoticeKind.FENCED,
        NoticeKind.DUPLICATE_ID,
        NoticeKind.SECOND_SENDER,
        NoticeKind.SENDER_ID_TAKEN,
        NoticeKind.NO_SENDER_ID,
        NoticeKind.PROTOCOL_ERROR,
        DaemonEvent.COMMAND_DENIED,
    }
)
"""Events that a peer or a local process can cause as often as it likes."""
_OF_OPERATOR: Final = frozenset(
    {
        DaemonEvent.STARTED,
        DaemonEvent.STOPPED,
        DaemonEvent.START_FAILED,
        DaemonEvent.RELOADED,
        DaemonEvent.RELOAD_FAILED,
        DaemonEvent.RESTART_NEEDED,
    }
)
_REPEATING: Final = frozenset({NoticeKind.TWO_MASTERS, NoticeKind.JOIN_FAILED, DaemonEvent.COMMAND_DENIED})
"""Failures that come again and again: one line of the same text in a while (`log_budget`, rule 4)."""


class Journal:
    """Tells events. `always` returns the fields that each of them has, as they are at that moment."""

    def __init__(self, always: Callable[[], Fields]) -> None:
        self._always = always

    def tell(self, event: NoticeKind | DaemonEvent, text: str, fields: Fields | None = None) -> None:
        """Log a sentence about an event, with the fields that are its own."""
        tell(event, text, {**self._always(), **(fields or {})})


def tell(event: NoticeKind | DaemonEvent, text: str, fields: Fields) -> None:
    """Log a sentence about an event, with these fields and no others."""
    entry = EVENTS[event]
    named = {f"PSKKEY_{name.upper()}": str(value) for name, value in fields.items() if value is not None}
    extra: dict[str, object] = {"journal": {"MESSAGE_ID": entry.message_id, **named}, "cause": _cause(event)}
    if event in _REPEATING:
        extra["once"] = text
    _log.log(entry.level, "%s", text, extra=extra)


def _cause(event: NoticeKind | DaemonEvent) -> Cause:
    if event in _OF_OTHERS:
        return Cause.OTHERS
    return Cause.OPERATOR if event in _OF_OPERATOR else Cause.NODE
