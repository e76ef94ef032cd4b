"""The key that a follower's own half sends with, beside those of a master that does not send with it.

Whoever comes over from another half goes on sending with the key of its own half, which is what the rest of it can
read, until it is superseded: the master (which sees the foreign key in JOIN, and rolls) sends with a newer one than
both, and the rest of the half is there, or was missed for long enough. A master that never supersedes it is given in to
after a while. From then on it is kept for reception, for `retire_after`.

It is also kept in use for a moment while all of the master's group can still read it, and the one that they send with
is news to us, and so to the rest of our half, which is on its way.
"""

from pskkey.core.held import HeldEntry, is_above, latest
from pskkey.core.settings import Settings
from pskkey.model import SavedLease, SavedRing, Turn


class OwnHalf:
    """At most one key, `entry`, in use (current) or kept for reception (previous), and the `lease` of its time."""

    def __init__(self, settings: Settings, saved: SavedRing) -> None:
        self._settings = settings
        self.entry = HeldEntry.of(saved.own) if saved.own else None
        self.lease = saved.own_lease
        self.until_above = saved.own_until_above
        """The epoch above which a key supersedes it."""
        self._is_left = False
        """Those whom we follow have gone on from it to another key."""
        self._is_superseded = False
        self._goes_over_at = 0.0
        self._is_listed = False
        """The master's group can read it, for now."""

    @property
    def in_use(self) -> HeldEntry | None:
        """Return the key if it is still sent with."""
        return self.entry if self.entry is not None and self.entry.turn is Turn.CURRENT else None

    def meet(
        self,
        held: list[HeldEntry],
        adopted: list[HeldEntry],
        lease: SavedLease,
        misses_until: float,
        now: float,
    ) -> None:
        """Take the master's keys, `adopted` in place of those `held`; `lease` is ours under what we sent with.

        `misses_until`: until then the rest of our half may be on its way.
        """
        before, was_listed, left_over = self.in_use, self._is_listed, self.entry
        former = next((e for e in held if e.turn is Turn.CURRENT), None)
        if before and former and was_listed and not before.is_among(adopted) and not former.is_among(adopted):
            # Another master, and our half is that of the former one now: it comes along, it sends with another key, and
            # only that master let it read ours.
            left_over = HeldEntry(before.epoch, before.key, Turn.PREVIOUS, now)
            before = None
        theirs = next((e for e in adopted if e.turn is Turn.CURRENT), None)
        mine = before or former
        news = [e for e in adopted if not e.is_among([*held, *filter(None, [self.entry])])]
        self._goes_over_at = misses_until
        if mine is None or (theirs is not None and mine.is_among([theirs])):
            if before is not None and former is not None and not former.is_among(adopted):
                # Those whom we leave behind still send with it.
                left_over = HeldEntry(former.epoch, former.key, Turn.PREVIOUS, now)
            elif before is not None:
                left_over = None
            self._keep(left_over, adopted)
            return
        self._is_listed = mine.is_among(adopted)
        is_known = self._is_listed and (theirs is None or theirs not in news)
        if is_known and before is None and (theirs is None or now >= misses_until):
            self._keep(left_over, adopted)
            return
        sending = theirs.epoch if theirs else 0
        own = before
        if own is None:
            own = HeldEntry(mine.epoch, mine.key, Turn.CURRENT, now)
            self.lease = lease
            self.until_above = latest((mine.epoch, sending))
            self._is_left = is_known
        self._is_left |= before is not None and was_listed and not self._is_listed
        self._is_superseded = self._is_left or is_above(sending, self.until_above)  # by this master, not by one before
        if self._is_superseded and now >= misses_until:
            own.turn, own.since = Turn.PREVIOUS, now
        elif any(e.turn is Turn.NEXT and is_above(e.epoch, self.until_above) for e in news):
            own.since = now  # they roll above it, be it for the second time
        self._keep(own, adopted)

    def _keep(self, own: HeldEntry | None, adopted: list[HeldEntry]) -> None:
        self.entry = own
        if own is not None and own.turn is not Turn.CURRENT and self._stands_in_the_way(adopted):
            self.entry = None

    def _stands_in_the_way(self, held: list[HeldEntry]) -> bool:
        """Tell whether a key in use needs its epoch."""
        own = self.entry
        return own is not None and any(e.epoch == own.epoch and e.turn is not Turn.PREVIOUS for e in held)

    def tick(self, held: list[HeldEntry], now: float) -> bool:
        """Give it up when its time has come, beside those `held`; tell whether that was so."""
        own, until = self.entry, self.deadline()
        if own is None or until is None or now < until:
            return False
        if own.turn is Turn.CURRENT and not self._stands_in_the_way(held):
            own.turn, own.since = Turn.PREVIOUS, now  # the others of our half give up a moment sooner or later
        else:
            self.entry = None
            own.key.pms.wipe()
        return True

    def deadline(self) -> float | None:
        """Return when `tick` has something to do."""
        own, timing = self.entry, self._settings.timing
        if own is None:
            return None
        if own.turn is not Turn.CURRENT:
            return own.since + timing.retire_after
        lasts = timing.dead_after if self._is_listed else timing.activation_deadline + 2 * timing.rekey_spacing
        return min(own.since + lasts, self._goes_over_at) if self._is_superseded else own.since + lasts
