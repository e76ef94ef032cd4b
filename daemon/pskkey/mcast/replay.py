"""The anti-replay window of one sender under one epoch."""


class ReplayWindow:
    """Distinguishes new sequence numbers from those seen before, or too old to know (RFC 6347 section 4.1.2.6).

    It remembers the 64 numbers that end with the highest seen. Call `check` before a record is
    authenticated, and `update` only after: otherwise a forged record could move the window ahead, and genuine records
    would be refused.
    """

    __slots__ = ("_highest", "_seen")

    SIZE = 64

    def __init__(self) -> None:
        self._highest = -1
        self._seen = 0  # bit n: the sequence number highest - n was seen

    def check(self, sequence: int) -> bool:
        """Return whether a record with this sequence number may be taken."""
        behind = self._highest - sequence
        if behind < 0:
            return True
        return behind < self.SIZE and not self._seen >> behind & 1

    def update(self, sequence: int) -> None:
        """Remember the sequence number of a record that was authenticated."""
        ahead = sequence - self._highest
        if ahead >= self.SIZE:
            self._seen = 1
        elif ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << self.SIZE) - 1)
        else:
            if -ahead < self.SIZE:
                self._seen |= 1 << -ahead
            return
        self._highest = sequence
