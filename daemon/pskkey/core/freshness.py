"""Challenges and their answers: the proof that a master sends its advert now.

Anybody can replay a recorded advert, because its signature stays valid. A device that has just booted has no clock and
no record of earlier adverts. So a node that looks for a master puts a *challenge* into its advert: a text that it has
never used before. A master repeats the challenges of others in its own signed advert.

1. A listening node has a challenge, and so has a master. The challenge is the nonce of its process and a number. The
   node renews it every CHALLENGE_EVERY seconds.
2. A node notes each challenge that it hears. A noted challenge expires ANSWER_FOR seconds after it was last heard.
3. The advert of a master carries at most MAX_ANSWERS noted challenges. Challenges without an answer come first. The
   master answers a new challenge at once, but two such adverts are at least ANSWER_SHARE seconds apart, times the
   number of masters. This bounds the packets that a stranger can cause with replayed challenges, and those of many
   masters that have just booted and challenge each other. They are ANSWER_SPACING apart if neither a master waits for
   the answer nor so many nodes that the advert is full. Every node of the link has to read each of them, so a boot of
   slow nodes would be slower without it. Masters merge only after the answers, and a new key waits for the merge.
4. An advert that carries our present challenge, or the one before, is a *proof*: a holder of the pre-shared key made it
   after that challenge. Its age is below 2 x CHALLENGE_EVERY seconds if the node renews its challenge on time. In any
   case it is below 4 x CHALLENGE_EVERY. Every other advert is a *hint*.

An answer costs one packet for any number of nodes. If n nodes boot, the answers cost n / MAX_ANSWERS packets.
"""

from typing import Final

from pskkey.model import MAX_ANSWERS, Advert

CHALLENGE_EVERY: Final = 5.0
"""Seconds for which a challenge is used."""

PROVEN_FOR: Final = 2 * CHALLENGE_EVERY
"""Seconds for which a proof counts."""

ANSWER_FOR: Final = 2.5
"""Seconds for which a challenge is noted. This is longer than the default `beacon_interval`, so that a master repeats a
lost answer."""

ANSWER_AGAIN_AFTER: Final = 0.2
"""Seconds after an answer. If the challenge is heard again after this time, the master answers it again at once."""

ANSWER_SPACING: Final = 0.2
"""Minimum seconds between two adverts that answer new challenges of a few listening nodes."""

ANSWER_SHARE: Final = 0.05
"""Minimum seconds for each master between two adverts that answer new challenges."""

MAX_NOTED: Final = 256
"""Maximum number of noted challenges."""


class Freshness:
    """The challenge of this node, and the challenges of others. `nonce` is random and new in each process."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._number = 0
        self._renewed_at = float("-inf")
        self._accepts_former = False
        self._noted: dict[str, float] = {}
        """The challenges of others, each with the time when it was last heard."""
        self._of_masters: set[str] = set()
        """The noted challenges of masters."""
        self._answered: dict[str, float] = {}
        """The noted challenges that were answered, each with the time of the last answer."""
        self._last_answers = float("-inf")
        """When the last answers were taken."""
        self._masters = 0
        """The number of other masters at that time."""

    def challenge(self, now: float) -> str:
        """Return our challenge. If CHALLENGE_EVERY is over, renew it first."""
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
        """Return whether an advert answers our present challenge, or the one before."""
        if now >= self._renewed_at + PROVEN_FOR:
            return False
        if f"{self._nonce}{self._number}" in advert.answers:
            return True
        return self._accepts_former and f"{self._nonce}{self._number - 1}" in advert.answers

    def note(self, challenge: str, now: float, *, is_of_master: bool) -> None:
        """Note the challenge of another node. If MAX_NOTED are noted, ignore a new one: its node repeats it."""
        self._expire(now)
        if challenge not in self._noted and len(self._noted) >= MAX_NOTED:
            return
        self._noted[challenge] = now
        if is_of_master:
            self._of_masters.add(challenge)
        if now >= self._answered.get(challenge, now) + ANSWER_AGAIN_AFTER:
            del self._answered[challenge]  # its node has not received the answer

    def answer_due(self) -> float | None:
        """Return when to send an advert because of a challenge; None if all challenges are answered."""
        waiting = self._noted.keys() - self._answered.keys()
        spacing = ANSWER_SHARE * (1 + self._masters)
        if len(waiting) < MAX_ANSWERS and waiting.isdisjoint(self._of_masters):
            spacing = max(spacing, ANSWER_SPACING)
        return self._last_answers + spacing if waiting else None

    def take_answers(self, now: float, masters: int) -> tuple[str, ...]:
        """Return the challenges that the next advert carries, and mark them as answered at `now`.

        `masters`: the number of other masters, which answer too.
        """
        self._expire(now)
        longest_ago = sorted(self._noted, key=lambda challenge: self._answered.get(challenge, float("-inf")))
        taken = longest_ago[:MAX_ANSWERS]
        self._answered.update(dict.fromkeys(taken, now))
        self._last_answers, self._masters = now, masters
        return tuple(sorted(taken))

    def _expire(self, now: float) -> None:
        for challenge in [c for c, heard_at in self._noted.items() if now >= heard_at + ANSWER_FOR]:
            del self._noted[challenge]
            self._answered.pop(challenge, None)
            self._of_masters.discard(challenge)
