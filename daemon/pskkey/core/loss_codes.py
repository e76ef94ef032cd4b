"""The codes with which a session ends or is refused. Those of ERROR are read by programs, and never change."""

from typing import Final

NOT_MASTER: Final = "not_master"
"""ERROR: the peer is not the master now."""

NO_COMMON_LEVEL: Final = "version"
"""ERROR: the peer, or a member of its group, has no protocol level in common with this node (`levels`)."""

OTHER_REFUSAL: Final = "refusal"
"""ERROR with a code that this version does not know, or that only this node itself uses."""

REFUSALS: Final = frozenset({"bad_packet", "busy", "duplicate_id", "group_full", "wrong_group", OTHER_REFUSAL})
"""ERROR: the peer is alive and master, and refuses JOIN."""

CANNOT_JOIN: Final = "cannot_join"
"""ERROR: the peer would yield to this master, but could not join it a while ago."""

NO_HANDSHAKE: Final = "no_handshake"
"""TCP opened, and then no answer of TLS arrived. So the peer is slow, or large packets do not get through."""

NO_GROUP: Final = "no_group"
"""The session opened, but the answer to JOIN did not arrive. So the peer is slow, or only small packets get through."""

MAY_BE_BUSY: Final = frozenset({NO_HANDSHAKE, NO_GROUP})
"""The kernel of the peer has opened TCP, and the peer may only be slow."""

_OTHER_ERRORS: Final = frozenset({NOT_MASTER, CANNOT_JOIN, NO_COMMON_LEVEL, "no_key", "protocol", "psk_removed"})


def code_of_error(code: str) -> str:
    """Return the code of an ERROR of the master, if this version knows it; else OTHER_REFUSAL.

    A master that sends an ERROR is alive. So an unknown code counts as a refusal: if this node became master because of
    it, there would be two groups.
    """
    return code if code in REFUSALS or code in _OTHER_ERRORS else OTHER_REFUSAL
