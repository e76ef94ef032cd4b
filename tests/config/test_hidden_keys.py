"""No message repeats a key that stands in the wrong place of the configuration."""

import base64
import secrets
from pathlib import Path

import pytest

from pskkey.config.psk import find_psk_file, load_psk
from pskkey.config.schema import load_config
from pskkey.errors import ConfigError, without_keys

HEX = secrets.token_hex(16)
BASE64 = base64.b64encode(base64.b64decode("Ab1z") + secrets.token_bytes(29)).decode()
"""Its first characters give it digits, small and capital letters, which nearly every key has."""


@pytest.mark.parametrize("key", [HEX, HEX.upper(), HEX[:16], BASE64], ids=["hex", "capitals", "half", "base64"])
@pytest.mark.parametrize(
    "text",
    [
        'psk = "node:{}"',
        '[psk]\nfile = ["node:{}"]',
        '[psk]\nkey = "{}"',
        '[psk]\n"{}" = 1',
        '["{}"]',
        '"{}" = 3',
        '[node]\nid = "x{}"',
        '[group]\nname = "{}\\u0000"',
        '[handoff]\nusers = ["{}"]',
        '[handoff]\nsocket = "{}\\u0000"',
        "[psk]\nnode:{}",
    ],
    ids=lambda text: text.partition("{")[0],
)
def test_no_mistake_in_the_configuration_repeats_a_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text.replace("{}", key))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert key not in str(caught.value)
    assert key[:16] not in str(caught.value)


@pytest.mark.parametrize("table", ["group", "node"])
def test_name_that_could_be_a_key_is_refused(tmp_path: Path, table: str) -> None:
    """A name is announced to the whole network, so a pasted PSK would be public."""
    path = tmp_path / "c.toml"
    for key in (HEX, HEX.upper(), secrets.token_hex(32)[:62], f"node:{HEX}"):
        path.write_text(f'[{table}]\nname = "{key}"')
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert f"[{table}] name: " in str(caught.value)
        assert "could be a key" in str(caught.value)
        assert HEX not in str(caught.value).lower()
    path.write_text(f'[{table}]\nname = "{HEX[:31]}"')
    load_config(path)


def test_path_with_a_key_is_not_repeated(tmp_path: Path) -> None:
    for key in (HEX, "Ab1" + HEX[:12].replace("a", "z") + "Zz9xyzXYZ"):
        path = tmp_path / f"node:{key}"
        for load in (load_config, load_psk):
            with pytest.raises(ConfigError) as caught:
                load(path)
            assert key not in str(caught.value)
            assert f"{tmp_path}/node:<hidden>" in str(caught.value)


@pytest.mark.parametrize("separator", [":", " ", "\t"])
def test_key_written_byte_by_byte_is_hidden(separator: str) -> None:
    for size in (12, 16, 32):
        key = secrets.token_bytes(size).hex(separator)
        assert without_keys(f"psk {key}!") == "psk <hidden>!"
        assert without_keys(f"psk {key.upper()}") == "psk <hidden>"


def test_ordinary_texts_are_shown() -> None:
    for text in (
        "/etc/pskkey/PSKs/site-1/controller/group.psk",
        "/var/lib/Some Long Directory/With Many Parts/2026/pskkey.toml",
        "PSK_CHACHA20_POLY1305",
        "controller-of-the-northern-plant",
        "01234567-89ab-cdef-0123-456789abcdef",
        "02:00:5e:10:00:00:00:01",
        "2001:db8:1234:5678:9abc:def0:1234:5678",
    ):
        assert without_keys(text) == text


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    config, psk = tmp_path / "c.toml", tmp_path / "psk"
    config.write_bytes(b'\xef\xbb\xbf[group]\nname = "g"\n')
    psk.touch(0o600)
    psk.write_bytes(b"\xef\xbb\xbfnode:" + HEX.encode())
    assert load_config(config).group.name == "g"
    assert load_psk(psk).active.identity == "node"


def test_credential_that_cannot_be_looked_at_is_reported(tmp_path: Path) -> None:
    # A name that is too long fails for root too. Permissions do not stop root.
    with pytest.raises(ConfigError, match="credential cannot be looked at: File name too long"):
        find_psk_file(None, {"CREDENTIALS_DIRECTORY": str(tmp_path / ("x y" * 100))})
