"""Fresh group keys from the operating system's random number generator."""

import secrets

from pskkey.model import PMS_FIELD_SIZE, RANDOM_SIZE, Key, Suite
from pskkey.secret import Secret

DTLS_1_2 = b"\xfe\xfd"
PMS_RANDOM_SIZE = 46


def random_key(suite: Suite) -> Key:
    """Return a fresh key for `suite`.

    Its pre-master secret is 48 bytes: the version `fe fd` and 46 random bytes, in the form of RFC 5246 section 7.4.7.1.
    The field has 64 bytes; the rest is zeros.
    """
    pms = (DTLS_1_2 + secrets.token_bytes(PMS_RANDOM_SIZE)).ljust(PMS_FIELD_SIZE, b"\0")
    return Key(Secret(pms), secrets.token_bytes(RANDOM_SIZE), secrets.token_bytes(RANDOM_SIZE), suite)
