"""The acknowledgements that a new key waits for."""

from collections.abc import Iterable
from typing import Final

from pskkey.core.admission import Joined

ACKS_WITHIN: Final = 2.0
"""Seconds after its JOIN for which a new key waits for a member without a key. The JOIN of such a member lists no key,
and it has acknowledged none.

An acknowledgement takes a round trip, and up to `managers_return` for the session managers of the member. A member that
sends none cannot read the current records either, so it loses nothing. But it would delay each new key to its deadline.
"""


def have_all_acknowledged(joined: Iterable[Joined], epoch: int, now: float) -> bool:
    """Return whether each member that counts has acknowledged `epoch`.

    A new member does not count if the limit of ACKS_WITHIN is over for it.
    """
    newcomer_since = now - ACKS_WITHIN
    counting = (j for j in joined if j.member.acked_epoch is not None or j.join.held or j.since > newcomer_since)
    return all(j.member.acked_epoch == epoch for j in counting)
