"""The verbs of `pskkeyctl` that need no daemon: `check-config` and `psk generate`."""

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pskkey.config import DEFAULT_CONFIG, load_config, node_id
from pskkey.errors import ConfigError
from pskkey.psk import CREDENTIAL_NAME, find_psk_file, generate_psk_line, load_psk

_CREDENTIAL_STORES: Final = [
    Path(root, store) for root in ("/etc", "/run", "/usr/lib") for store in ("credstore.encrypted", "credstore")
]
"""Where `ImportCredential=` of systemd.exec(5) looks."""
_ENDING: Final = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
_INSTANCES: Final = Path("/etc/pskkey")
"""Where pskkeyd@.service has the configuration of each of several groups."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let nothing end us in between: a file with keys, of which nobody knows, would stay."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stored_credential(config: Path) -> Path | None:
    """Return the credential that systemd gives the daemon of this configuration; None when there is none."""
    name = f"pskkey.{config.stem}.psk" if config.parent == _INSTANCES else CREDENTIAL_NAME
    return next((store / name for store in _CREDENTIAL_STORES if (store / name).exists()), None)


def check_config(configured: Path | None) -> None:
    """Print what the daemon would use. Raises ConfigError, a line for each mistake."""
    path = DEFAULT_CONFIG if configured is None else configured
    config = load_config(path)
    mistakes = []
    try:
        print(f"node id: {node_id(config)}")
    except ConfigError as error:
        mistakes.append(str(error))
    credential = stored_credential(path)
    try:
        psk_file = find_psk_file(config.psk.file, os.environ)
        if credential is not None and not psk_file.exists():
            print(f"pre-shared keys: only systemd can read {credential}, so they are not checked")
        else:
            if credential is not None and psk_file == config.psk.file:
                print(f"pre-shared keys: systemd gives pskkeyd {credential} instead of {psk_file}")
            print(f"pre-shared keys: {len(load_psk(psk_file).accepted)} in {psk_file}")
    except ConfigError as error:
        mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    print(f"{path}: ok")


def psk_generate(identity: str | None, output: Path | None) -> None:
    """Print a new PSK, or write it to a new file. Raises ConfigError."""
    # A new name every time: the old and the new key stand in one file while they are exchanged.
    name = f"pskkey-{secrets.token_hex(4)}" if identity is None else identity
    try:
        line = generate_psk_line(name)
    except ConfigError as error:
        raise ConfigError(f"--identity: {error}") from None
    if output is None:
        print(line)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{output}: exists already; remove it, or add a line to it by hand") from None
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from None
    with undisturbed():
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{line}\n")
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            output.unlink()
            raise ConfigError(f"{output}: cannot be written: {error.strerror}") from None
    print(f"{output}: holds a new key; copy it to every node of the group", file=sys.stderr)
