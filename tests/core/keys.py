"""Distinct keys for tests, each from a number, and the keyrings that hold them."""

from pskkey.core.keyring import Keyring
from pskkey.core.settings import Settings, Timing
from pskkey.model import Key, KeyEntry, Member, SavedRing, Suite
from pskkey.secret import Secret


def key(number: int) -> Key:
    """Return key `number`, a new object each time, because keyrings wipe what they retire."""
    pms = b"\xfe\xfd" + number.to_bytes(46, "big") + bytes(16)
    return Key(Secret(pms), bytes(32), number.to_bytes(32, "big"), Suite.PSK_CHACHA20_POLY1305)


def entry(epoch: int, number: int, *, send: bool = False) -> KeyEntry:
    """Return key `number` under `epoch`."""
    return KeyEntry(epoch, key(number), send)


def empty_ring(timing: Timing | None = None, saved: SavedRing | None = None) -> Keyring:
    """Return a keyring that is empty, or has the saved state."""
    me = Member("0badcafe", "n", (), 1, 100, eligible=True)
    return Keyring(Settings("g", me, "i", "n", timing=timing or Timing()), saved or SavedRing())
