"""Proof that an advert is of now: challenges, and their answers.

Anybody can record an advert and send it again: its signature holds for ever, and a device that has just got its power
back has no clock and no memory of what it heard before. So a node that looks for masters puts a challenge into its
advert, a text that was never used before. A master repeats the challenges of others in its advert, under its signature.

1. A node that listens, and a master, has a challenge: the nonce of its process and a number. It is renewed every
   CHALLENGE_EVERY seconds.
2. A node notes every challenge that it hears, for ANSWER_FOR seconds.
3. A master's advert carries the challenges that it has noted, first those that it has not answered yet, MAX_ANSWERS at
   most. A new one is answered at once, but two answers are ANSWER_SPACING seconds apart at least: a stranger who sends
   recorded challenges costs the network that many packets and no more.
4. An advert that carries our challenge, the present one or the one before, was made by a holder of the PSK less than
   two times CHALLENGE_EVERY seconds ago. Only such an advert is a *proof*; every other one is a *hint*.

A master's answer costs one packet whatever the number of nodes; a boot of n nodes costs n / MAX_ANSWERS of them.
"""

from typing import Final

from pskkey.model import MAX_ANSWERS, Advert

CHALLENGE_EVERY: Final = 5.0
"""Seconds for which a challenge is used."""

PROVEN_FOR: Final = 2 * CHALLENGE_EVERY
"""Seconds for which a proof counts."""

ANSWER_FOR: Final = 2.5
"""Seconds for which a challenge is answered in every advert: longer than a beacon's interval, so that an answer that
was lost comes once more."""

ANSWER_AGAIN_AFTER: Final = 0.2
"""Seconds after which a challenge that is heard once more is answered once more."""

ANSWER_SPACING: Final = 0.05
"""Seconds between two adverts that are sent because of challenges, at least."""

MAX_NOTED: Final = 256
"""Challenges of others that are noted at once."""


class Freshness:
    """The challenge of this node, and the challenges of others. `nonce` is random, and another in each process."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._number = 0
        self._renewed_at = float("-inf")
        self._accepts_former = False
        self._noted: dict[str, float] = {}
        """The challenges of others, each with the time at which it was heard last."""
        self._answered: dict[str, float] = {}
        """Those of them that were answered, each with the time of its last answer."""
        self._answer_not_before = float("-inf")

    def challenge(self, now: float) -> str:
        """Return our challenge, renewed if its time is over."""
        if now >= self._renewed_at + CHALLENGE_EVERY:
            self._accepts_former = now < self._renewed_at + PROVEN_FOR
            self._number += 1
            self._renewed_at = now
        return f"{self._nonce}{self._number}"

    @property
    def renews_at(self) -> float:
        """Return when `challenge` changes."""
        return self._renewed_at + CHALLENGE_EVERY

    def is_proof(self, advert: Advert, now: float) -> bool:
        """Return whether an advert answers our challenge, the present one or the one before."""
        if now >= self._renewed_at + PROVEN_FOR:
            return False
        if f"{self._nonce}{self._number}" in advert.answers:
            return True
        return self._accepts_former and f"{self._nonce}{self._number - 1}" in advert.answers

    def note(self, challenge: str, now: float) -> None:
        """Note the challenge of another node. One too many is left out: its node repeats it."""
        self._expire(now)
        if challenge not in self._noted and len(self._noted) >= MAX_NOTED:
            return
        self._noted[challenge] = now
        if now >= self._answered.get(challenge, now) + ANSWER_AGAIN_AFTER:
            del self._answered[challenge]  # the answer did not arrive

    def answer_due(self) -> float | None:
        """Return when an advert must be sent because of a challenge; None: all are answered."""
        return self._answer_not_before if self._noted.keys() - self._answered.keys() else None

    def take_answers(self, now: float) -> tuple[str, ...]:
        """Return the challenges that the advert of this moment carries; from now on they are answered."""
        self._expire(now)
        longest_ago = sorted(self._noted, key=lambda challenge: self._answered.get(challenge, float("-inf")))
        taken = longest_ago[:MAX_ANSWERS]
        self._answered.update(dict.fromkeys(taken, now))
        self._answer_not_before = now + ANSWER_SPACING
        return tuple(sorted(taken))

    def _expire(self, now: float) -> None:
        for challenge in [c for c, heard_at in self._noted.items() if now >= heard_at + ANSWER_FOR]:
            del self._noted[challenge]
            self._answered.pop(challenge, None)
