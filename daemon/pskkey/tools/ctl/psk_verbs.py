"""The verbs `pskkeyctl psk list`, `add`, `use` and `remove`: the PSK file of a node, changed whole or not at all.

They are the steps in which a group moves to a new pre-shared key; see pskkeyd(8). The daemon reads the changed file at
its next reload. No key is printed, and no argument has a key.
"""

import fcntl
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pskkey.config.bounded_file import read_bounded
from pskkey.config.psk import MAX_FILE_SIZE, PskFile, find_psk_file, load_psk, parse_psk
from pskkey.config.schema import DEFAULT_CONFIG, DEFAULT_HANDOFF_GROUP, load_config
from pskkey.errors import ConfigError, without_keys
from pskkey.tools.ctl.content_change import change_content
from pskkey.tools.ctl.instance import service_of
from pskkey.tools.ctl.setup_verbs import stored_credential

SCHEMA: Final = 1


def psk_path(configured: Path | None, config: Path | None) -> Path:
    """Return the PSK file: the one that was named, else that of the configuration. Raises ConfigError.

    Prints a note when the daemon reads a credential instead.
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
    """Return the operator's next step after a change of the PSK file. The arguments are those of `psk_path`."""
    service = service_of(DEFAULT_CONFIG if config is None else config) if configured is None else None
    if service is None:
        return "now reload the daemon that uses it, for example with `systemctl reload pskkeyd`"
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
    """Add the lines of the file `source` (`-`: standard input) below the present lines; return what holds now.

    Raises ConfigError.
    """
    new = _source(source)
    if all(_identity(line) is None for line in new.split("\n")):
        raise ConfigError(f"{without_keys(source)}: holds no line to add")
    with _locked(path):
        before = list(_load(path).accepted)
        text = _text(path)
        _change(path, text + ("" if text.endswith("\n") else "\n") + new.rstrip("\n") + "\n")
        added = [identity for identity in _load(path).accepted if identity not in before]
    return f"accepts {', '.join(map(without_keys, added))} too, and uses {without_keys(before[0])}"


def psk_use(path: Path, identity: str) -> str:
    """Move the line of `identity` before the others; return what holds now. Raises ConfigError."""
    with _locked(path):
        _known(path, identity)
        lines = _lines(path)
        place = next(number for number, line in enumerate(lines) if _identity(line) is not None)
        moved = next(number for number, line in enumerate(lines) if _identity(line) == identity)
        line = lines.pop(moved)
        lines.insert(place, line if line.endswith("\n") else line + "\n")
        _change(path, "".join(lines))
    return f"uses {without_keys(identity)}"


def psk_remove(path: Path, identity: str) -> str:
    """Remove the line of `identity`, which may not be the one in use; return what holds now. Raises ConfigError."""
    with _locked(path):
        accepted = _known(path, identity)
        if accepted[0] == identity:
            named = without_keys(identity)
            raise ConfigError(f"{without_keys(path)}: {named} is in use; first use another one: `pskkeyctl psk use`")
        lines = _lines(path)
        _change(path, "".join(line for line in lines if _identity(line) != identity))
    return f"no longer accepts {without_keys(identity)}"


def _load(path: Path) -> PskFile:
    return load_psk(path, groups=(DEFAULT_HANDOFF_GROUP,))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep out every other verb from the reading of the file to its replacement. Otherwise one of two changes is lost.

    The lock is on the file, not on its directory. Only users that may read the keys can open the file, but any user
    could hold a lock on /etc for ever.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(f"{without_keys(path)}: the PSK file cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # The last holder of the lock has replaced the file. Then the new one must be locked.
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
    """Return the text of a file, or of standard input, which may be a pipe. Raises ConfigError."""
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
    """Return the accepted identities. Raises ConfigError when `identity` is none of them."""
    accepted = _load(path).accepted
    if identity not in accepted:
        there = ", ".join(map(without_keys, accepted))
        raise ConfigError(f"{without_keys(path)}: has no identity {without_keys(identity)}; it has {there}")
    return list(accepted)


def _text(path: Path) -> str:
    """Return the text unchanged: a carriage return that became a newline would turn part of a comment into a line."""
    return read_bounded(path, MAX_FILE_SIZE)[0].decode("utf-8-sig")


def _lines(path: Path) -> list[str]:
    """Return the lines with their ends. Only a newline ends a line, as in the daemon."""
    return list(io.StringIO(_text(path)))


def _identity(line: str) -> str | None:
    """Return the identity of a line of a valid file; None for an empty one or a comment."""
    text = line.strip()
    return None if not text or text.startswith("#") else text.partition(":")[0]


def _change(path: Path, text: str) -> None:
    """Give the file at `path` this text, if it is one of a PSK file. Raises ConfigError, as `change_content` does."""
    content = text.encode()
    parse_psk(content, path)
    change_content(path, content)
