"""The adverts that were heard in the last minute, for an operator who looks for the reason why nodes do not meet."""

from dataclasses import dataclass
from typing import Final, Literal

from pskkey.adapters.discovery.source import Source
from pskkey.model import Advert

REMEMBERED: Final = 60.0
"""Seconds."""

MAX_OURS: Final = 192
MAX_OTHERS: Final = 64
"""Rows of our group, and rows of other nodes. They have separate room: a stranger can send any number of the others."""

MAX_SHOWN: Final = 64
"""Characters of a name."""

type Kind = Literal["ours", "other_group", "other_psk"]
"""`ours`: a verified advert of our group. `other_group`: it names another group. `other_psk`: it names our group, and
none of our PSKs verifies it."""


@dataclass(frozen=True, slots=True)
class HeardAdvert:
    """The last advert of an instance. `name` and `group` are as sent, but printable and cut."""

    kind: Kind
    instance: str
    name: str
    node_id: str | None
    """None: not verified."""
    group: str
    source: str
    age: float
    """Seconds since the last datagram with it."""
    addresses: tuple[str, ...]
    port: int
    """Where the node listens; no addresses and port 0: not verified."""


@dataclass(frozen=True, slots=True)
class _Row:
    kind: Kind
    name: str
    group: str
    source: Source
    at: float
    verified: Advert | None


class HeardAdverts:
    """A table with a row for each instance of our group, and for each instance of other nodes."""

    def __init__(self) -> None:
        self._ours: dict[str, _Row] = {}
        self._others: dict[str, _Row] = {}  # the instance that was heard longest ago is first

    def note(
        self,
        kind: Kind,
        instance: str,
        name: str,
        group: str,
        source: Source,
        now: float,
        verified: Advert | None = None,
    ) -> None:
        """Note that an advert was heard at the time `now` (seconds).

        `verified` is its content, if a PSK of ours verifies it.
        """
        rows, most = (self._ours, MAX_OURS) if kind == "ours" else (self._others, MAX_OTHERS)
        rows.pop(instance, None)
        if kind == "ours":
            self._others.pop(instance, None)  # its PSK or group was another one. A stranger cannot cause the reverse.
        if len(rows) >= most:
            del rows[next(iter(rows))]
        rows[instance] = _Row(kind, _shown(name), _shown(group), source, now, verified)

    def rows(self, now: float) -> tuple[HeardAdvert, ...]:
        """Return what was heard in the last REMEMBERED seconds before `now`, our own group first."""
        return tuple(
            _heard(instance, row, now)
            for rows in (self._ours, self._others)
            for instance, row in rows.items()
            if now - row.at <= REMEMBERED
        )


def _heard(instance: str, row: _Row, now: float) -> HeardAdvert:
    common = row.kind, instance, row.name
    where = row.group, str(row.source), now - row.at
    if (advert := row.verified) is None:
        return HeardAdvert(*common, None, *where, (), 0)
    return HeardAdvert(*common, advert.id, *where, advert.addresses, advert.port)


def _shown(text: str) -> str:
    shown = text[:MAX_SHOWN]
    return shown if shown.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in shown)
