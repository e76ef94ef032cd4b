"""The verbs of `pskkeyctl` that need no daemon: `check-config` and `psk generate`."""

import os
import pwd
import secrets
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pskkey.config.notes import list_notes
from pskkey.config.own_interfaces import describe_missing, is_own_address, list_labels, missing_interfaces
from pskkey.config.psk import CREDENTIAL_NAME, find_psk_file, generate_psk_line, load_psk
from pskkey.config.schema import DEFAULT_CONFIG, Config, load_config, node_id
from pskkey.errors import ConfigError
from pskkey.tools.ctl.content_change import signals_blocked
from pskkey.tools.ctl.instance import INSTANCES, service_of

DAEMON_USER: Final = "pskkey"
"""The user of pskkeyd.service and pskkeyd@.service."""
_CREDENTIAL_STORES: Final = [
    *(Path("/run/credentials", store) for store in ("@system", "@encrypted")),
    *(Path(root, "credstore") for root in ("/etc", "/run", "/usr/lib")),
    *(Path(root, "credstore.encrypted") for root in ("/run", "/etc", "/usr/lib")),
]
"""The places that `ImportCredential=` of systemd.exec(5) searches, in this order; systemd itself got the first two."""


def stored_credential(config: Path) -> Path | None:
    """Return the credential that systemd gives the daemon of this configuration; None when we see none."""
    return next((path for path in _credentials(config) if os.access(path, os.F_OK)), None)


def is_perhaps_hidden(config: Path, psk_file: Path) -> bool:
    """Return whether this PSK file is absent, and the daemon may have a credential that this user cannot see."""
    return _type_of(psk_file) == 0 and bool(_hidden_stores(config))


def check_daemon_access(config: Path, psk_file: Path) -> None:
    """Raise ConfigError when the daemon of this configuration cannot use a PSK file that root can read.

    Only root can check that, and only for a service of this package without a credential; else this does nothing.
    """
    if service_of(config) is None or stored_credential(config) is not None or os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(DAEMON_USER)
    except KeyError:
        return
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    command = ["test", "-r", str(psk_file)]
    if subprocess.run(command, user=user.pw_uid, group=user.pw_gid, extra_groups=groups, check=False).returncode != 0:
        raise ConfigError(
            f"{psk_file}: the daemon's user {DAEMON_USER} cannot read it; `chown {DAEMON_USER} {psk_file}`, and give "
            "that user access to the directories above it"
        )
    if psk_file.stat().st_uid not in (0, user.pw_uid):
        raise ConfigError(f"{psk_file}: belongs to another user, who may change it; `chown {DAEMON_USER} {psk_file}`")


def check_config(configured: Path | None) -> None:
    """Print what the daemon would use, and notes about it. Raises ConfigError with a line for each mistake."""
    path = DEFAULT_CONFIG if configured is None else configured
    config = load_config(path)
    mistakes = []
    try:
        print(f"node id: {node_id(config)}")
    except ConfigError as error:
        mistakes.append(str(error))
    mistakes += [f"{path}: {mistake}" for mistake in _find_obstacles(path, config)]
    for note in list_notes(config):
        _note(note)
    if missing := missing_interfaces(config.network.interfaces):
        _note(f"{describe_missing(missing, list_labels())}; the daemon uses them when they appear")
    for address in config.network.addresses:
        if not is_own_address(address):
            _note(f"[network] addresses: this machine has no {address} now; the daemon listens there when it appears")
    try:
        seen = _check_psk(path, config)
    except ConfigError as error:
        mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    print(f"{path}: ok" if seen else f"{path}: ok, as far as this user can check")


def psk_generate(identity: str | None, output: Path | None) -> None:
    """Print a new PSK, or write it to a new file. Raises ConfigError."""
    # A new name every time: one file holds the old and the new key while a group moves to the new one.
    line = generate_psk_line(f"pskkey-{secrets.token_hex(4)}" if identity is None else identity)
    if output is None:
        print(line)
        return
    with signals_blocked():
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise ConfigError(f"{output}: exists already; remove it, or add a line to it by hand") from None
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written: {error.strerror}") from None
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{line}\n")
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            output.unlink()
            raise ConfigError(f"{output}: cannot be written: {error.strerror}") from None
    print(f"{output}: holds a new key; copy it to every node of the group", file=sys.stderr)


def _find_obstacles(path: Path, config: Config) -> Iterator[str]:
    """Yield a sentence for each socket that a daemon with this configuration could not use now."""
    if service_of(path) is not None:
        return  # systemd makes the sockets
    for table, socket_path in (("handoff", config.handoff.socket), ("control", config.control.socket)):
        if (why := _socket_obstacle(socket_path)) is not None:
            yield f"[{table}] socket: {socket_path} {why}"


def _socket_obstacle(path: Path) -> str | None:
    """Return why a daemon could not make a socket there; None if it could, or if this user cannot see that."""
    if _type_of(path, follow_symlinks=False) not in (0, None, stat.S_IFSOCK):
        return "is in the way and no socket; remove it or set another socket path"
    directory, above = (_type_of(place) for place in (path.parent, path.parent.parent))
    if directory in (stat.S_IFDIR, None) or (directory == 0 and above in (stat.S_IFDIR, None)):
        return None
    return "cannot be made: the daemon makes only the last directory of the path; make those above it"


def _type_of(path: Path, *, follow_symlinks: bool = True) -> int | None:
    """Return the type of a file as in stat(2), 0 if there is none; None if this user cannot see that."""
    try:
        return stat.S_IFMT(path.stat(follow_symlinks=follow_symlinks).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError:
        return None


def _credentials(config: Path) -> Iterator[Path]:
    """Yield the possible places of the credential, in the order in which systemd searches them."""
    name = f"pskkey.{config.stem}.psk" if config.parent == INSTANCES else CREDENTIAL_NAME
    for store in _CREDENTIAL_STORES:
        yield store / name


def _hidden_stores(config: Path) -> list[Path]:
    """Return the possible directories of the credential into which this user cannot look."""
    return [place.parent for place in _credentials(config) if _is_hidden(place)]


def _check_psk(path: Path, config: Config) -> bool:
    """Print the result for the pre-shared keys; return whether we could check everything. Raises ConfigError."""
    psk_file = find_psk_file(config.psk.file, os.environ)
    closed = _hidden_stores(path)
    for store in closed:
        _note(f"this user cannot see whether {store} has a credential; run this as root for that")
    credential = stored_credential(path)
    if credential is not None and not os.access(psk_file, os.F_OK):
        print(f"pre-shared keys: only systemd can read {credential}, so they are not checked")
        return not closed
    if credential is not None and psk_file == config.psk.file:
        print(f"pre-shared keys: systemd gives pskkeyd {credential} instead of {psk_file}")
    if is_perhaps_hidden(path, psk_file):
        _note(f"{psk_file} does not exist, so the pre-shared keys are not checked; run this as root for that")
        return False
    if service_of(path) is not None and os.geteuid() != 0 and is_closed(psk_file):
        _note(f"this user cannot read {psk_file}, so the pre-shared keys are not checked; run this as root for that")
        return False
    psk = load_psk(psk_file, config.handoff.users, config.handoff.groups)
    print(f"pre-shared keys: {len(psk.accepted)} in {psk_file}")
    check_daemon_access(path, psk_file)
    return not closed


def _is_hidden(path: Path) -> bool:
    """Return whether the directory hides from us whether a file is there."""
    try:
        path.lstat()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def is_closed(path: Path) -> bool:
    """Return whether we may not read a file, or not even see whether it is there."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _note(text: str) -> None:
    print(f"pskkeyctl: note: {text}", file=sys.stderr)
