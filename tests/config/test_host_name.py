"""A node without a configured name has the name of its host, as far as people can read it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pskkey.config.schema import Config, node_name
from pskkey.wire.fields import check_printable

NAME_ITSELF = """
import ctypes, sys
from pskkey.config.schema import Config, node_name
host = bytes.fromhex(sys.argv[1])
assert ctypes.CDLL(None).sethostname(host, len(host)) == 0
sys.stdout.buffer.write(node_name(Config()).encode())
"""


def name_on(host: bytes, locale: str = "C") -> str:
    """Return the name of a node on a machine with this host name."""
    command = ["unshare", "--uts", sys.executable, "-c", NAME_ITSELF, host.hex()]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "LC_ALL": locale})
    return done.stdout.decode()


def test_configured_name_has_precedence() -> None:
    assert node_name(Config.parse('[node]\nname = "Pumpe 1 ü"', Path("/x.toml"))) == "Pumpe 1 ü"


@pytest.mark.root
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"pump-1", "pump-1"),
        ("höhe-ポンプ".encode(), "höhe-ポンプ"),
        (b"\xe9t\xe9-1", "?t?-1"),
        (b"a\x1b[31m\nb", "a?[31m?b"),
        ("a\u200bb".encode(), "a?b"),
        (b" pump ", "pump"),
        (b"\xff\xfe", "unnamed"),
        (b"\n", "unnamed"),
        (b"", "unnamed"),
        (b"0123456789abcdef0123456789abcdef", "unnamed"),  # as a configured name, it could be a key
        (b"x" * 64, "x" * 63),
        (("ü" * 32).encode(), "ü" * 31),
        (("x" * 62 + "ü").encode(), "x" * 62),
        (b"x" * 62 + b" y", "x" * 62),
    ],
)
def test_host_name_is_used_as_text_within_63_bytes(host: bytes, name: str, locale: str) -> None:
    assert name_on(host, locale) == name
    assert check_printable(name) == name
    Config.parse(f'[node]\nname = "{name}"', Path("/x.toml"))
