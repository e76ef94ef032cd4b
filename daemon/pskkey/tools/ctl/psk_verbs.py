"""The verbs `pskkeyctl psk list`, `add`, `use` and `remove`: the PSK file of a node, changed whole or not at all.

They are the steps in which a group moves to a new pre-shared key; see pskkeyd(8). The daemon takes each at its reload.
No key is printed and none stands in an argument.
"""

import fcntl
import io
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pskkey.config.bounded_file import read_bounded
from pskkey.config.psk import MAX_FILE_SIZE, PskFile, find_psk_file, load_psk
from pskkey.config.schema import DEFAULT_CONFIG, DEFAULT_HANDOFF_GROUP, load_config
from pskkey.errors import ConfigError, without_keys
from pskkey.tools.ctl.setup_verbs import service_of, stored_credential, undisturbed

SCHEMA: Final = 1


def psk_path(configured: Path | None, config: Path | None) -> Path:
    """Return the PSK file: the one that was named, else that of the configuration. Raises ConfigError.

    Says so when it is not what the daemon takes.
    """
    if configured is not None:
        return configured
    path = DEFAULT_CONFIG if config is None else config
    file = load_config(path).psk.file
    found = find_psk_file(file, os.environ)
    if found == file and (credential := stored_credential(path)) is not None:
        print(f"pskkeyctl: systemd gives pskkeyd {credential} instead of {without_keys(found)}", file=sys.stderr)
    return found


def next_step(configured: Path | None, config: Path | None) -> str:
    """Return what to do once the PSK file is changed, which was named as for `psk_path`."""
    service = service_of(DEFAULT_CONFIG if config is None else config) if configured is None else None
    if service is None:
        return "now reload the daemon that uses it, as with `systemctl reload pskkeyd`"
    return f"now `systemctl reload {service}`"


def psk_list(path: Path, as_json: bool) -> None:
    """Print the identities, the one in use first. Raises ConfigError."""
    identities = list(_load(path).accepted)
    if as_json:
        print(json.dumps({"schema": SCHEMA, "file": str(path), "in_use": identities[0], "accepted": identities}))
        return
    width = max(map(len, identities))
    for number, identity in enumerate(identities):
        print(f"{identity:<{width}}  {'in use' if number == 0 else 'accepted'}")


def psk_add(path: Path, source: str) -> str:
    """Add the lines of the file `source` (`-`: standard input) below those that are there; return what holds now.

    Raises ConfigError.
    """
    new = _source(source)
    if all(_identity(line) is None for line in new.split("\n")):
        raise ConfigError(f"{without_keys(source)}: holds no line to add")
    with _alone(path):
        before = list(_load(path).accepted)
        text = _text(path)
        _replace(path, text + ("" if text.endswith("\n") else "\n") + new.rstrip("\n") + "\n")
        added = [identity for identity in _load(path).accepted if identity not in before]
    return f"accepts {', '.join(map(without_keys, added))} too, and uses {without_keys(before[0])}"


def psk_use(path: Path, identity: str) -> str:
    """Move the line of `identity` before the others; return what holds now. Raises ConfigError."""
    with _alone(path):
        _known(path, identity)
        lines = _lines(path)
        place = next(number for number, line in enumerate(lines) if _identity(line) is not None)
        moved = next(number for number, line in enumerate(lines) if _identity(line) == identity)
        line = lines.pop(moved)
        lines.insert(place, line if line.endswith("\n") else line + "\n")
        _replace(path, "".join(lines))
    return f"uses {without_keys(identity)}"


def psk_remove(path: Path, identity: str) -> str:
    """Remove the line of `identity`, which may not be the one in use; return what holds now. Raises ConfigError."""
    with _alone(path):
        accepted = _known(path, identity)
        if accepted[0] == identity:
            named = without_keys(identity)
            raise ConfigError(f"{without_keys(path)}: {named} is in use; `pskkeyctl psk use` another one before")
        lines = _lines(path)
        _replace(path, "".join(line for line in lines if _identity(line) != identity))
    return f"accepts {without_keys(identity)} no more"


def _load(path: Path) -> PskFile:
    return load_psk(path, groups=(DEFAULT_HANDOFF_GROUP,))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep out every other verb from reading to replacing, or one of two changes would be lost.

    The lock is on the file, which only those who may read the keys can open, and not on its directory: anybody could
    hold that of /etc for ever.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(f"{without_keys(path)}: the PSK file cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever had the lock before put another file in its place; that one is to be locked then.
            if _is_still(path, os.fstat(descriptor)):
                yield
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), found)
    except FileNotFoundError:
        return False


def _source(source: str) -> str:
    """Return the text of a file, or of standard input, which alone may be a pipe. Raises ConfigError."""
    named = without_keys(source)
    try:
        if source != "-":
            content, _ = read_bounded(Path(source), MAX_FILE_SIZE)
        elif sys.stdin is None:
            raise ConfigError("standard input is closed; give it the line to add")
        else:
            content = sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{named}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_SIZE:
        raise ConfigError(f"{named}: is larger than the {MAX_FILE_SIZE} bytes that a PSK file may have")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{named}: is not UTF-8 text") from None


def _known(path: Path, identity: str) -> list[str]:
    """Return the identities, of which this must be one."""
    accepted = _load(path).accepted
    if identity not in accepted:
        there = ", ".join(map(without_keys, accepted))
        raise ConfigError(f"{without_keys(path)}: has no identity {without_keys(identity)}; it has {there}")
    return list(accepted)


def _text(path: Path) -> str:
    """Return the text as it stands there: a carriage return that became a newline would make a line of a comment."""
    return read_bounded(path, MAX_FILE_SIZE)[0].decode("utf-8-sig")


def _lines(path: Path) -> list[str]:
    """Return the lines with their ends; only a newline ends one, as for the daemon."""
    return list(io.StringIO(_text(path)))


def _identity(line: str) -> str | None:
    """Return the identity of a line of a valid file; None for an empty one or a comment."""
    text = line.strip()
    return None if not text or text.startswith("#") else text.partition(":")[0]


def _replace(path: Path, text: str) -> None:
    """Put a file with the same owner and mode in the place of `path`, if it is a valid PSK file.

    Raises ConfigError when it is not, or cannot be written: then all is as it was.
    """
    path = path.resolve()  # a link stays one
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with undisturbed():
        try:
            _write_like(path, fresh, text.encode())
            _load(fresh)
            fresh.replace(path)
        except ConfigError as error:
            # Of the file that was not to be; the lines are those that it would have.
            raise ConfigError(str(error).replace(without_keys(fresh), without_keys(path))) from None
        except OSError as error:
            raise ConfigError(f"{without_keys(path)}: cannot be written: {error.strerror}") from None
        finally:
            fresh.unlink(missing_ok=True)


def _write_like(path: Path, fresh: Path, content: bytes) -> None:
    """Write a new file with the owner and mode of `path`. Raises OSError."""
    found = path.stat()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchown(descriptor, found.st_uid, found.st_gid)
        os.fchmod(descriptor, found.st_mode & 0o7777)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
