"""Makes events of the adverts of other nodes. Only verified adverts of our own group become events.

An advert is an event when its text is new. The same text again is an event in two cases:

1. Its sender is LISTENING, and repeats it after SAME_FOR or later: no node has answered its challenge yet.
2. It comes from a source that this instance was not heard from in the last SOURCE_REMEMBERED seconds: the node may be
   reachable there. A stranger can send a recorded advert from any number of sources. So there are at most
   MAX_SOURCES for an instance, and at most one such event in NEW_SOURCE_EVERY seconds.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pskkey.adapters.discovery.heard_adverts import HeardAdvert, HeardAdverts
from pskkey.adapters.discovery.source import Source
from pskkey.config.psk import PskFile
from pskkey.core.events import AdvertReceived, Event
from pskkey.errors import BadPacket
from pskkey.model import Advert, Role
from pskkey.secret import Secret
from pskkey.wire.advert import (
    SERVICE_TYPE,
    advert_key,
    decode_advert_untrusted,
    group_of_untrusted,
    instance_name,
    is_signed,
)
from pskkey.wire.dns import InstanceText, read_text_untrusted

STRANGER_REPORTED_EVERY: Final = 3600.0
"""Seconds."""

MAX_KNOWN: Final = 2048
"""Instances of our group that are remembered; only a holder of the PSK can make an entry."""

SAME_FOR: Final = 0.2
"""Seconds after an event in which the same advert is no other one: a node sends each over IPv4 and over IPv6."""

MAX_SOURCES: Final = 8
SOURCE_REMEMBERED: Final = 60.0
NEW_SOURCE_EVERY: Final = 0.2
"""Seconds. A node repeats a new advert after 0.25 s and 1 s, so further sources are reported with these repeats."""

_log = logging.getLogger("pskkey.mdns")


@dataclass(slots=True)
class _Sources:
    """Where the adverts of one instance came from lately."""

    heard: dict[Source, float] = field(default_factory=dict)  # the one that was heard longest ago is first
    not_before: float = 0.0
    """The time of the next event for a new source."""

    def is_new(self, source: Source, now: float) -> bool:
        """Return whether a repeated advert is reported because of its source."""
        if self.heard.get(source, float("-inf")) >= now - SOURCE_REMEMBERED:
            self.note(source, now)
            return False
        if now < self.not_before:
            return False
        self.not_before = now + NEW_SOURCE_EVERY
        self.note(source, now)
        return True

    def note(self, source: Source, now: float) -> None:
        """Remember a source of an advert."""
        self.heard.pop(source, None)
        if len(self.heard) >= MAX_SOURCES:
            del self.heard[next(iter(self.heard))]
        self.heard[source] = now


@dataclass(slots=True)
class _KnownAdvert:
    """The last verified advert of an instance name, the TXT record that it came in, and its sources."""

    advert: Advert
    text: bytes
    sources: _Sources
    emitted_at: float


class AdvertReceiver:
    """Takes TXT records. Counters: `adverts_rejected`, `adverts_accepted`."""

    def __init__(
        self,
        *,
        group: str,
        psk: Callable[[], PskFile],
        is_ours: Callable[[bytes | None], bool],
        emit: Callable[[Event], None],
        counters: Counter[str],
    ) -> None:
        """`is_ours` returns whether a signature is one of this node."""
        self._group = group
        self._psk = psk
        self._is_ours = is_ours
        self._emit = emit
        self._counters = counters
        self._known: dict[str, _KnownAdvert] = {}
        self._heard = HeardAdverts()
        self._stranger_reported_at = -STRANGER_REPORTED_EVERY
        self._signing: tuple[PskFile, list[Secret]] | None = None

    def forget(self) -> None:
        """Let every advert count as new."""
        self._known.clear()

    def heard(self, now: float) -> tuple[HeardAdvert, ...]:
        """Return the adverts that were heard in the last minute before `now` (seconds)."""
        return self._heard.rows(now)

    def take_untrusted(self, found: InstanceText, source: Source, now: float) -> None:
        """Take the TXT record of an instance. It came from `source` at the time `now` (seconds)."""
        keys = self._verifying_keys()
        known = self._known.get(found.name)
        if known is not None and known.text == found.text:
            self._note(known.advert, found.name, source, now)
            is_repeat = known.advert.role is Role.LISTENING and now >= known.emitted_at + SAME_FOR
            if known.sources.is_new(source, now) or is_repeat:
                known.emitted_at = now
                self._emit(AdvertReceived(known.advert, str(source)))
            return
        try:
            properties = read_text_untrusted(found.text)
        except BadPacket as error:
            self._reject(found.name, str(error))
            return
        group = group_of_untrusted(properties)
        if group is None or self._is_ours(properties.get(b"sig")):
            return
        name = (properties.get(b"name") or b"").decode(errors="replace")
        if group != self._group:
            self._heard.note("other_group", found.name, name, group, source, now)
            return
        try:
            advert = decode_advert_untrusted(properties, keys)
        except BadPacket as error:
            question = "is its version another one?"
            if not is_signed(properties, keys):
                question = "do the PSK files differ?"
                self._heard.note("other_psk", found.name, name, group, source, now)
            self._reject(found.name, str(error))
            self._report_stranger(found.name, f"{error}: {question}", now)
            return
        if found.name != f"{instance_name(advert.id)}.{SERVICE_TYPE}":
            self._reject(found.name, "it is another node's advert under this name")
            return
        self._counters["adverts_accepted"] += 1
        self._note(advert, found.name, source, now)
        sources = known.sources if known is not None else _Sources()
        sources.note(source, now)
        self._known.pop(found.name, None)
        while len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[found.name] = _KnownAdvert(advert, found.text, sources, now)
        self._emit(AdvertReceived(advert, str(source)))

    def _note(self, advert: Advert, instance: str, source: Source, now: float) -> None:
        self._heard.note("ours", instance, advert.name, advert.group, source, now, advert)

    def _reject(self, name: str, why: str) -> None:
        self._counters["adverts_rejected"] += 1
        _log.debug("advert %r not taken: %s", name[:80], why)

    def _report_stranger(self, name: str, why: str, now: float) -> None:
        """Log why a device of our group is not accepted, so seldom that a stranger cannot fill the log."""
        if now < self._stranger_reported_at + STRANGER_REPORTED_EVERY:
            return
        self._stranger_reported_at = now
        text = "%a announces itself in our group %r, but %s (not logged again for an hour)"
        _log.warning(text, name[:80], self._group, why)

    def _verifying_keys(self) -> list[Secret]:
        psk = self._psk()
        if self._signing is None or self._signing[0] is not psk:
            self._signing = (psk, [advert_key(key) for key in psk.accepted.values()])
            self._known.clear()  # to be verified again
        return self._signing[1]
