"""The events that the daemon reports to its operator: one row for each, with all facts about it."""

from collections.abc import Mapping
from dataclasses import fields
from logging import ERROR, INFO, WARNING
from typing import Final

from pskkey.core import notices
from pskkey.core.notices import Notice
from pskkey.daemon.event_kinds import DaemonEvent, Entry, NodeEvent
from pskkey.daemon.log_budget import Cause
from pskkey.model import KeyNewReason

EVENTS: Final[Mapping[NodeEvent | DaemonEvent, Entry]] = {
    NodeEvent.ROLE_CHANGED: Entry(
        "2d59f10e830b4086b0ad8ebbfd495d91",
        INFO,
        Cause.NODE,
        "The node's role in its group changed",
        counted="Changes of this node's role.",
        sentences={notices.RoleChanged: "{was} -> {role}, term {term}"},
    ),
    NodeEvent.ELECTED: Entry(
        "9b19c27c040943cb8f19337dd835fe8b",
        INFO,
        Cause.NODE,
        "This node became the master",
        counted="Times that this node became master.",
        sentences={notices.Elected: "we are master of term {term}: {why}"},
    ),
    NodeEvent.MASTER_JOINED: Entry(
        "e00e8624a26247859742fa0b556abb9b",
        INFO,
        Cause.NODE,
        "This node joined a master",
        fields="peer",
        counted="Masters that this node joined.",
        sentences={notices.MasterJoined: "joined master {peer.name} in term {term}"},
    ),
    NodeEvent.MASTER_LOST: Entry(
        "d10eb36800f540b795668c395c526b6c",
        WARNING,
        Cause.NODE,
        "The session with the master ended",
        fields="peer code",
        counted="Masters that this node lost.",
        sentences={notices.MasterLost: "lost master {peer.name}: {reason}"},
    ),
    NodeEvent.JOIN_FAILED: Entry(
        "1c4b208b315f41ca90323c2097293c49",
        WARNING,
        Cause.OTHERS,
        "This node could not join a master or successor",
        fields="peer code",
        counted="Masters and successors that this node could not join.",
        repeats=True,
        sentences={
            notices.JoinFailed: "could not join {peer.name}: {reason}",
            notices.RenewalFailed: (
                "the session with {peer.name} goes on with PSK identity {identity!a} for now: {reason}"
            ),
        },
    ),
    NodeEvent.MEMBER_JOINED: Entry(
        "834ee85d97864982b9a6b5ba22d9984f",
        INFO,
        Cause.OTHERS,
        "A node joined this master",
        fields="peer address",
        counted="Members that joined while this node was master.",
        sentences={notices.MemberJoined: "{peer.name} joined from {address}"},
    ),
    NodeEvent.MEMBER_LOST: Entry(
        "c03892fb301a436eb42a26b58eae3d8e",
        INFO,
        Cause.OTHERS,
        "A member of this master left or died",
        fields="peer",
        counted="Members that left or died while this node was master.",
        sentences={notices.MemberLost: "{peer.name} left: {reason}"},
    ),
    NodeEvent.MEMBER_REFUSED: Entry(
        "a4200b2f53464bb8b5636f98bfc88c2a",
        WARNING,
        Cause.OTHERS,
        "This master refused a node as a member",
        fields="peer",
        counted="Nodes that this master refused as members.",
        sentences={notices.MemberRefused: "refused {peer.name} at {address}: {reason}"},
    ),
    NodeEvent.KEY_WANTED: Entry(
        "6b15ef1b29de41519d322c4ae933c0ad",
        INFO,
        Cause.OTHERS,
        "A new group key was requested, or is necessary",
        fields="peer",
        counted="Times that a new group key was requested or necessary.",
        sentences={
            notices.KeyRequested: "making a new key: {reason}",
            notices.KeyRequestPostponed: (
                "{requester} asks too often for a new key ({reason}): postponed by {seconds:.0f} s"
            ),
            notices.ForeignKeyMet: (
                "{peer.name} sends with a key of another partition, epoch {foreign}: making a key of a higher epoch"
            ),
            notices.NodesLeft: "making a new key: these nodes have left and know the current one: {nodes}",
            notices.SuiteChanged: (
                "making a new key: the current key is of suite {used.name}, but {configured.name} is configured"
            ),
        },
    ),
    NodeEvent.KEY_DISTRIBUTED: Entry(
        "ed03eb460c314e15bdb213bd20cfa108",
        INFO,
        Cause.NODE,
        "This master distributes a new group key; PSKKEY_EPOCH is its epoch",
        counted="Group keys that this node distributed as master.",
        sentences={notices.KeyDistributed: "distributing a new key, epoch {epoch}, {fingerprint}"},
    ),
    NodeEvent.KEY_CHANGED: Entry(
        "284a1fc8f2d0450ea7924ce6869d01cf",
        INFO,
        Cause.NODE,
        "This node activated another group key; PSKKEY_EPOCH is its epoch",
        counted="Times that this node activated another group key.",
        sentences={notices.KeyChanged: "activated key epoch {epoch}, {fingerprint}"},
    ),
    NodeEvent.KEY_REQUEST_ANSWERED: Entry(
        "42e9527303b74b81a66f2daf4f1df47f",
        INFO,
        Cause.COUNTED,
        "A client that is no member got the group key",
        fields="address identity count",
        counted="Times that a client which was no member got the group key by KEY_REQ or JOIN.",
        per_peer=True,
        sentences={
            notices.KeyRequestAnswered: (
                "{address} got the group key by KEY_REQ, and has not joined (PSK identity {identity!a})"
            ),
            notices.JoinerLeft: (
                "{address} got the group key by JOIN as {peer.name}, and left before it was a member "
                "(PSK identity {identity!a})"
            ),
        },
    ),
    NodeEvent.KEY_REQUEST_REFUSED: Entry(
        "d864b5c97fae4abca9f6c5b54d4a7d5d",
        WARNING,
        Cause.COUNTED,
        "This node refused KEY_REQ of a client that has not joined the group",
        fields="address identity count",
        counted="Times that KEY_REQ of a client which had not joined was refused.",
        per_peer=True,
        sentences={
            notices.KeyRequestRefused: (
                "refused KEY_REQ of {address}, which has not joined (PSK identity {identity!a}): "
                "[tls] key_requests is false"
            )
        },
    ),
    NodeEvent.TWO_MASTERS: Entry(
        "a32e320d5af34ee08523ebb69e72a884",
        WARNING,
        Cause.OTHERS,
        "This master met another master",
        fields="peer",
        counted="Times that this master met another master.",
        repeats=True,
        sentences={
            notices.TwoMasters: "{peer.name} is master too, of term {peer.term}: asking it which of us stays master"
        },
    ),
    NodeEvent.MERGED: Entry(
        "526317952f1a47fdb48e8ea2d91e6ea1",
        INFO,
        Cause.NODE,
        "Two masters agreed which of them stays master",
        fields="peer winner",
        counted="Merges with the group of another master.",
        sentences={notices.Merged: "merged with the group of {peer.name}: {winner.name} is master"},
    ),
    NodeEvent.HANDED_OVER: Entry(
        "d0627284ee65429da94211ee313740f4",
        INFO,
        Cause.NODE,
        "This master hands over its mastership to a member",
        fields="peer",
        counted="Times that this node handed over its mastership.",
        sentences={notices.HandedOver: "handing over the mastership to {peer.name}"},
    ),
    NodeEvent.SESSION_RENEWED: Entry(
        "86e8d30bd024aeeb54f5c3e9a4f88e70",
        INFO,
        Cause.OPERATOR,
        "The session with the master goes on with another pre-shared key",
        fields="peer",
        counted="Sessions with a master that went on with another PSK.",
        sentences={notices.SessionRenewed: "the session with {peer.name} goes on with PSK identity {identity!a}"},
    ),
    NodeEvent.FENCED: Entry(
        "e1b8512cc3044c089a2d75eca0361fe6",
        WARNING,
        Cause.OTHERS,
        "This node refused a master of an old term; PSKKEY_TERM is that term",
        fields="peer",
        counted="Masters of an old term that this node refused.",
        sentences={notices.Fenced: "refused {peer.name} as master of term {term}: this node knows term {seen}"},
    ),
    NodeEvent.SLEPT: Entry(
        "c515644caa5a463591d98b03840d790d",
        WARNING,
        Cause.NODE,
        "This node did not run for so long that another node may be master now",
        counted="Times that this node did not run for longer than dead_after.",
        sentences={
            notices.Slept: (
                "did not run for {seconds:.1f} s as {was}: listening first, because another node may be master now"
            ),
        },
    ),
    NodeEvent.DUPLICATE_ID: Entry(
        "414587ea03784760970d78ada23e9c68",
        ERROR,
        Cause.OTHERS,
        "Another node has this node's id, or two members have the same id",
        fields="peer",
        counted="Times that a node had the id of another node.",
        sentences={
            notices.OwnIdElsewhere: (
                "another node has our node id {node}: {elsewhere}; set another [node] id on one of them"
            ),
            notices.DuplicateMember: "refused {peer.name} at {address}: {reason}",
        },
    ),
    NodeEvent.SECOND_SENDER: Entry(
        "733ba8a8cb0d446bbc0ab8f985dfdc91",
        WARNING,
        Cause.OTHERS,
        "A second local session manager asked to send",
        fields="pid",
        counted="Local session managers that asked to send beside another one.",
        sentences={
            notices.SecondSender: "process {pid} asks to send, but only receives: process {sender_pid} is the sender"
        },
    ),
    NodeEvent.SENDER_ID_TAKEN: Entry(
        "6b37abcdf6d1478a85f2af8ca500cbd8",
        WARNING,
        Cause.OTHERS,
        "Another node has the configured sender id of a node",
        fields="peer sender_id",
        counted="Times that another node had the configured sender id of a node.",
        sentences={
            notices.OwnSenderIdTaken: (
                "another node has [node] sender_id = {configured} of our configuration: {sender_id} is leased to us "
                "instead"
            ),
            notices.SenderIdTaken: (
                "{peer.name} is configured with [node] sender_id = {configured}, but {sender_id} is leased to it: "
                "{holder} has {configured}; give each node its own"
            ),
        },
    ),
    NodeEvent.NO_SENDER_ID: Entry(
        "37eaec45224a4a28be0c62af38b048b6",
        WARNING,
        Cause.OTHERS,
        "A node got no sender id: all 256 are in use",
        fields="peer",
        counted="Times that a node got no sender id, because all were in use.",
        sentences={
            notices.NoSenderId: "no sender id is left for {peer.name}: all 256 are in use; it receives, but cannot send"
        },
    ),
    NodeEvent.PROTOCOL_ERROR: Entry(
        "2d3cc79610a943d5a83881dc6e4b64e0",
        WARNING,
        Cause.OTHERS,
        "A peer or a session manager broke the protocol",
        counted="Messages that broke the protocol.",
        sentences={
            notices.UnexpectedMessage: "unexpected {message} in a session; closed the session",
            notices.TermLeap: "refused term {claimed}: it is too far above our term {own}",
            notices.BadJoin: "refused {peer.name} at {address}: {reason}",
        },
    ),
    DaemonEvent.STARTED: Entry("f635cbe98e4544ca95531f2a00a35ca1", INFO, Cause.OPERATOR, "The daemon is ready"),
    DaemonEvent.STOPPED: Entry(
        "769bd86d1ded4cce9294c01f1c9e02d8", INFO, Cause.OPERATOR, "The daemon stopped on request"
    ),
    DaemonEvent.START_FAILED: Entry(
        "3310d2061898494681ea0a99e1cb1374",
        ERROR,
        Cause.OPERATOR,
        "The daemon cannot run with this configuration or on this machine",
    ),
    DaemonEvent.RELOADED: Entry(
        "cd6851b6204b43878172751e8ec280f3",
        INFO,
        Cause.OPERATOR,
        "The daemon read the configuration and the PSK file again and applied them",
    ),
    DaemonEvent.RELOAD_FAILED: Entry(
        "6c32a3065e814fd99c67dfece3585419",
        ERROR,
        Cause.OPERATOR,
        "The configuration or the PSK file has a mistake; nothing of it applies",
    ),
    DaemonEvent.RESTART_NEEDED: Entry(
        "6cb26c65dd9642bc91d8fabc819ceb45",
        WARNING,
        Cause.OPERATOR,
        "A changed setting applies only after a restart",
        fields="setting",
    ),
    DaemonEvent.CONDITION_BEGAN: Entry(
        "82052ef263a9457891336156dc1589a1",
        WARNING,
        Cause.OTHERS,
        "Something keeps this node from its group, or the group from being whole",
        fields="condition peer address",
        repeats=True,
    ),
    DaemonEvent.CONDITION_ENDED: Entry(
        "ef7b483843924bf48cd3d841f9b6bd29",
        INFO,
        Cause.OTHERS,
        "A condition that PSKKEY_CONDITION names has ended",
        fields="condition peer address",
    ),
    DaemonEvent.COMMANDED: Entry(
        "360b46d3dd9047b59df96698b311340d",
        INFO,
        Cause.NODE,
        "An administrator gave a command, with PSKKEY_CODE if it cannot be done",
        fields="uid pid command code",
    ),
    DaemonEvent.COMMAND_DENIED: Entry(
        "3250bc4db9fb4ccea63eb8250eb4810a",
        WARNING,
        Cause.OTHERS,
        "A user who is no administrator gave a command",
        fields="uid pid command",
        repeats=True,
    ),
    DaemonEvent.AUTHENTICATION_FAILED: Entry(
        "695060335cda470d960356b21f8ed94c",
        WARNING,
        Cause.COUNTED,
        "A peer failed to authenticate: its PSK or its PSK identity is not ours",
        fields="address identity direction code count",
        per_peer=True,
    ),
}

EVENT_OF: Final[Mapping[type[Notice], NodeEvent]] = {
    notice: event for event, entry in EVENTS.items() if isinstance(event, NodeEvent) for notice in entry.sentences
}
"""The event that a notice reports."""


def _as_text(value: object) -> object:
    """Return a value for a sentence: the name of a reason, as in the status, and any other value as it is."""
    return value.name.lower() if isinstance(value, KeyNewReason) else value


def sentence(notice: Notice) -> str:
    """Return the log line of a notice."""
    attributes = {one.name: _as_text(getattr(notice, one.name)) for one in fields(notice)}
    return EVENTS[EVENT_OF[type(notice)]].sentences[type(notice)].format_map(attributes)
