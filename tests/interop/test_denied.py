"""A user without the right to read the group's key: each session manager of the package reports it and exits with 4."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from tests.adapters.local.other_user import let_everybody_enter
from tests.quality.tracked import ROOT
from tests.system.ordinary_user import as_ordinary_user

DENIED = 4
IN_PYTHON = ROOT / "packaging" / "examples" / "session_manager.py"


@pytest.fixture
def closed_socket(tmp_path: Path) -> Iterator[Path]:
    """A socket that only root may connect to."""
    path = let_everybody_enter(tmp_path) / "keys.sock"
    with socket(AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600)
        yield path


def run(*command: str | Path, socket: Path) -> tuple[int, str]:
    """Run a session manager as an ordinary user; return its exit code and its standard error output."""
    environment = {**os.environ, "PSKKEY_KEYS_SOCKET": str(socket)}
    done = subprocess.run(
        [*as_ordinary_user(), *command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.root
@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "pskkey.tools.mcastpeer.mcastpeer", "--daemon", "--interface", "lo"],
        [sys.executable, "-c", IN_PYTHON.read_text()],
    ],
    ids=["mcastpeer", "python"],
)
def test_denied_python_session_manager_names_the_group_to_join(command: Sequence[str], closed_socket: Path) -> None:
    code, errors = run(*command, socket=closed_socket)
    assert (code, len(errors.splitlines())) == (DENIED, 1)
    assert errors.endswith(f"{closed_socket}: permission denied; become root\n")
    os.chown(closed_socket, 0, 7)
    closed_socket.chmod(0o660)
    code, errors = run(*command, socket=closed_socket)
    assert code == DENIED
    assert errors.endswith(
        "permission denied; become root, or join the group lp: `sudo usermod -aG lp $USER`, and log in again\n"
    )


@pytest.mark.root
def test_denied_c_session_manager_names_the_group_to_join(session_manager: Path, closed_socket: Path) -> None:
    let_everybody_enter(session_manager.parent)
    code, errors = run(session_manager, "--interface", "127.0.0.1", "--duration", "5", socket=closed_socket)
    message = "keys.sock: Permission denied; run as root or in the group pskkey (usermod -aG pskkey USER)\n"
    assert (code, errors) == (DENIED, message)
