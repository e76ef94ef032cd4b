"""The file of pre-shared keys (PSK): the keys that we accept in TLS-PSK, and the key that we use.

The format is that of GnuTLS `psktool` and of mosquitto: one `identity:hexkey` a line. Empty lines and lines that begin
with `#` are skipped. The first key is the active one, which we use as a client; the others are accepted too, so that a
PSK can be replaced without an outage: add the new line below on every node, then move it to the top everywhere, then
remove the old one.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pskkey.config.bounded_file import read_bounded
from pskkey.config.psk_access import check_access
from pskkey.config.weak_keys import weakness
from pskkey.errors import ConfigError, without_keys
from pskkey.model import PskName
from pskkey.secret import Secret

MIN_KEY_SIZE = 16
MAX_KEY_SIZE = 512
"""In bytes. OpenSSL takes no TLS-PSK above 512."""

MAX_IDENTITY_SIZE = 128
"""In bytes of UTF-8: the size that every implementation must support (RFC 4279 section 5.3)."""

MAX_FILE_SIZE = 65536
GENERATED_KEY_SIZE = 32
CREDENTIAL_NAME = "pskkey.psk"

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class Psk:
    """One pre-shared key and the identity under which both sides know it (1 to 128 bytes of UTF-8)."""

    identity: str
    key: Secret

    @property
    def name(self) -> PskName:
        """The name of this key in places where the key itself must not stand."""
        return PskName(self.identity, hashlib.sha256(b"pskkey PSK name" + self.key.reveal()).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class PskFile:
    """The content of a PSK file: `active` is its first line, `accepted` all lines (`active` too) in their order."""

    active: Psk
    accepted: Mapping[str, Secret]

    @property
    def names(self) -> frozenset[PskName]:
        """The names of all accepted keys."""
        return frozenset(Psk(identity, key).name for identity, key in self.accepted.items())

    def only(self, identity: str) -> "PskFile":
        """Return a PSK file with only the line of `identity`. Raises ConfigError when there is none."""
        key = self.accepted.get(identity)
        if key is None:
            raise ConfigError(
                without_keys(f"the PSK file has no identity {identity!r}; it has {', '.join(map(repr, self.accepted))}")
            )
        return PskFile(Psk(identity, key), MappingProxyType({identity: key}))


def load_psk(path: Path, users: Sequence[str] = (), groups: Sequence[str] = ()) -> PskFile:
    """Read a PSK file, which the `users` and `groups` of [handoff] must not be able to read.

    Raises ConfigError, which names the file, the line and the allowed content, but never repeats the content.
    """
    return parse_psk(_read(path, users, groups), path)


def parse_psk(content: bytes, path: Path) -> PskFile:
    """Return the keys in the content of a PSK file. `path` names the file in errors. Raises what `load_psk` raises."""
    named = without_keys(path)
    if len(content) > MAX_FILE_SIZE:
        raise ConfigError(f"{named}: the PSK file is larger than the {MAX_FILE_SIZE} bytes allowed")
    try:
        lines = content.decode("utf-8-sig").split("\n")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError:
        raise ConfigError(f"{named}: the PSK file is not UTF-8 text") from None
    accepted: dict[str, Secret] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            psk = _parse_line(text)
            _check_new(psk, accepted)
        except ConfigError as error:
            raise ConfigError(f"{named}, line {number}: {error}") from None
        accepted[psk.identity] = psk.key
    if not accepted:
        raise ConfigError(
            f"{named}: holds no PSK; write one line 'identity:hexkey' (`pskkeyctl psk generate` makes one)"
        )
    identity, key = next(iter(accepted.items()))
    return PskFile(Psk(identity, key), MappingProxyType(accepted))


def find_psk_file(configured: Path | None, environ: Mapping[str, str]) -> Path:
    """Return where the PSK file is: systemd's credential `pskkey.psk` if we have it, else `configured`.

    Raises ConfigError when there is neither. A `configured` file need not exist: `load_psk` reports a missing one.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if directory:
        credential = Path(directory) / CREDENTIAL_NAME
        try:
            credential.lstat()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise ConfigError(
                f"{without_keys(credential)}: the PSK credential cannot be looked at: {error.strerror}"
            ) from None
        else:
            return credential
    if configured is None:
        raise ConfigError(f"no PSK file: name one, or pass the systemd credential {CREDENTIAL_NAME}")
    return configured


def generate_psk_line(identity: str) -> str:
    """Return a line (without its end) of a PSK file with a fresh random key of 32 bytes. Treat it as a secret.

    Raises ConfigError when `identity` is not allowed.
    """
    check_identity(identity)
    return f"{identity}:{secrets.token_hex(GENERATED_KEY_SIZE)}"


def _read(path: Path, users: Sequence[str], groups: Sequence[str]) -> bytes:
    named = without_keys(path)
    try:
        content, status = read_bounded(path, MAX_FILE_SIZE)
    except FileNotFoundError:
        raise ConfigError(
            f"{named}: the PSK file cannot be opened: it does not exist; `pskkeyctl psk generate` makes one, "
            "which is for all nodes of the group"
        ) from None
    except OSError as error:
        raise ConfigError(f"{named}: the PSK file cannot be opened or read: {error.strerror}") from None
    check_access(path, status, users, groups)
    return content


def _parse_line(text: str) -> Psk:
    identity, colon, digits = text.partition(":")
    if not colon:
        raise ConfigError("is not of the form 'identity:hexkey'")
    check_identity(identity)
    if not _HEX.fullmatch(digits):
        raise ConfigError("has a key that is not pairs of hexadecimal digits after the first colon")
    key = bytes.fromhex(digits)
    if not MIN_KEY_SIZE <= len(key) <= MAX_KEY_SIZE:
        raise ConfigError(
            f"has a key of {len(key)} bytes; allowed are {MIN_KEY_SIZE} to {MAX_KEY_SIZE}"
            f" ({2 * MIN_KEY_SIZE} to {2 * MAX_KEY_SIZE} hexadecimal digits)"
        )
    if (why := weakness(key)) is not None:
        raise ConfigError(f"has a key that {why}, so it can be guessed; `pskkeyctl psk generate` makes a random one")
    return Psk(identity, Secret(key))


def _check_new(psk: Psk, accepted: Mapping[str, Secret]) -> None:
    if psk.identity in accepted:
        raise ConfigError("repeats the identity of a line above; each identity may stand once")
    if psk.key in accepted.values():
        raise ConfigError("repeats the key of a line above; each key may stand once")


def check_identity(identity: str) -> None:
    """Raise ConfigError, which does not repeat it, when a line of a PSK file cannot have this identity."""
    size = len(identity.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_IDENTITY_SIZE:
        raise ConfigError(f"has an identity of {size} bytes; allowed are 1 to {MAX_IDENTITY_SIZE} bytes of UTF-8")
    if not identity.isprintable() or identity != identity.strip():
        raise ConfigError("has an identity with characters that cannot be seen; allowed are printable ones")
    if ":" in identity or identity.startswith("#"):
        raise ConfigError("has an identity with a colon or a leading #; neither is allowed")
