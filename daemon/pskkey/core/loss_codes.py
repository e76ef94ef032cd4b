"""The codes with which a session ends or is refused. Those of ERROR are read by programs, and never change."""

from typing import Final

NOT_MASTER: Final = "not_master"
"""ERROR: the peer is not the master now."""

NO_COMMON_LEVEL: Final = "version"
"""ERROR: the peer, or a member of its group, has no protocol level in common with this node (`levels`)."""

REFUSALS: Final = frozenset({"busy", "duplicate_id", "group_full", "wrong_group", NO_COMMON_LEVEL})
"""ERROR: the peer is alive and master, and refuses JOIN."""

CANNOT_JOIN: Final = "cannot_join"
"""ERROR: the peer would yield to this master, but could not join it a while ago."""

NO_HANDSHAKE: Final = "no_handshake"
"""TCP opened, and then no answer of TLS arrived. So the peer is slow, or large packets do not get through."""

NO_GROUP: Final = "no_group"
"""The session opened, but the answer to JOIN did not arrive. So only small packets get through."""
