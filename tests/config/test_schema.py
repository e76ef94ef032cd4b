"""The configuration file: defaults, mistakes and values that come from the machine."""

import os
import re
import time
import tomllib
from pathlib import Path

import pytest

from pskkey.config.schema import Config, load_config, node_id
from pskkey.errors import ConfigError
from pskkey.model import Suite

SHIPPED = Path(__file__).parents[2] / "etc" / "pskkey.toml"


def mistakes_in(directory: Path, text: str) -> list[str]:
    """Return the sentences about a file with this content, without the file's name at their start."""
    path = directory / "pskkey.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    sentences = str(caught.value).split("\n")
    assert all(sentence.startswith(f"{path}: ") for sentence in sentences)
    return [sentence.removeprefix(f"{path}: ") for sentence in sentences]


def test_shipped_file_has_the_defaults() -> None:
    assert load_config(SHIPPED) == Config()


def test_shipped_file_shows_every_key() -> None:
    shown = tomllib.loads(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", SHIPPED.read_text()))
    every_key = {table: set(model) for table, model in Config().model_dump().items()}
    assert {table: set(keys) for table, keys in shown.items()} == every_key


def test_optional_lines_of_the_shipped_file_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "pskkey.toml"
    path.write_text(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", SHIPPED.read_text()))
    config = load_config(path)
    assert (config.node.id, config.node.name, config.node.sender_id) == ("0123456789abcdef", "pump-1", 7)


def test_empty_file_has_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.touch()
    assert load_config(path) == Config()


def test_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pskkey.toml"
    path.write_text(
        '[key]\nsuite = "WDM_WITH_NULL_SHA256"\nrekey_interval = 3600\n[psk]\nfile = "my.psk"\n'
        '[handoff]\nsocket = "/tmp/k"\nusers = ["root"]\n[network]\naddresses = ["127.0.0.2", "::1"]\n'
    )
    config = load_config(path)
    assert config.key.suite is Suite.WDM_WITH_NULL_SHA256
    assert config.key.rekey_interval == 3600.0
    assert config.psk.file == tmp_path / "my.psk"
    assert config.handoff.socket == Path("/tmp/k")
    assert config.handoff.users == ("root",)
    assert config.network.addresses == ("127.0.0.2", "::1")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[node]\npriority = 300", "[node] priority: 300 is out of range; allowed: a whole number from 0 to 255"),
        ("[node]\npriority = 1.5", "[node] priority: 1.5 is of another type; allowed: a whole number from 0 to 255"),
        ("[node]\npriority = true", "[node] priority: true is of another type; allowed: a whole number from 0 to 255"),
        ('[node]\neligible = "yes"', '[node] eligible: "yes" is of another type; allowed: true or false'),
        ('[node]\nid = "ABCDEF01"', '[node] id: "ABCDEF01" is not allowed; allowed: 8 to 32 lowercase hex digits'),
        ('[node]\nname = "a\\u001bb"', r'[node] name: "a\u001bb" is not such a text; allowed: 1 to 63 bytes of pri'),
        ('[group]\nname = ""', '[group] name: "" is not such a text; allowed: 1 to 63 bytes of printable text'),
        ('[network]\nip = "v5"', '[network] ip: "v5" is not allowed; allowed: "both", "v4" or "v6"'),
        ("[network]\nport = 0", "[network] port: 0 is out of range; allowed: a whole number from 1 to 65535"),
        ('[network]\ninterfaces = ["a b"]', '[network] interfaces: "a b" is no interface name and no IP address'),
        ('[network]\naddresses = ["10.0.0.300"]', '[network] addresses: "10.0.0.300" is not an IP address; allowed'),
        ('[network]\naddresses = ["0.0.0.0"]', '[network] addresses: "0.0.0.0" is not an address that others could'),
        ('[network]\naddresses = ["ff02::1"]', '[network] addresses: "ff02::1" is not an address that others could'),
        ('[network]\nip = "v4"\naddresses = ["::1"]', '[network] addresses: ["::1"] has ::1 although ip = "v4"'),
        (
            f"[network]\naddresses = {[f'127.0.0.{n}' for n in range(9)]}",
            '[network] addresses: ["127.0.0.0", "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.... has too many',
        ),
        ("[election]\nheartbeat_interval = 1", "[election] dead_after: 1.5 is less than twice heartbeat_interval = 1"),
        ("[election]\ndiscovery_window = nan", "[election] discovery_window: NaN is out of range; allowed: seconds"),
        ("[election]\nclaim_step = inf", "[election] claim_step: Infinity is out of range; allowed: seconds from"),
        ('[key]\nsuite = "AES"', '[key] suite: "AES" is not one of them; allowed: "PSK_CHACHA20_POLY1305" or "WDM_'),
        ("[key]\nsuite = 254", "[key] suite: 254 is not one of them; allowed"),
        ("[key]\nrekey_interval = 9", "[key] rekey_interval: 9 is too often; allowed: 0 for never, or seconds from 10"),
        ("[key]\nexpires_after = 0.9", "[key] expires_after: 0.9 is too soon; allowed: 0 for never, or seconds from 1"),
        ("[key]\nrekey_on_leave = 1", "[key] rekey_on_leave: 1 is of another type; allowed: true or false"),
        ("[psk]\nfile = 5", "[psk] file: 5 is of another type; allowed: the path of a file"),
        ('[psk]\nfile = ""', '[psk] file: "" is not a path; allowed: the path of a file'),
        ('[handoff]\nusers = ["no-such-user"]', '[handoff] users: "no-such-user" is no user of this machine; allowed'),
        ('[control]\ngroups = ["no-such-grp"]', '[control] groups: "no-such-grp" is no group of this machine; allowed'),
        ('[handoff]\ngroups = "root"', '[handoff] groups: "root" is of another type; allowed: a list of names of'),
        (f'[control]\nsocket = "/{"x" * 107}"', "is 108 bytes long as an absolute path, too long for a Unix socket"),
        ("[limits]\nmembers = 1979-05-27", "[limits] members: 1979-05-27 is of another type; allowed: a whole number"),
        ('[log]\nlevel = "loud"', '[log] level: "loud" is not allowed; allowed: "debug", "info", "warning" or "error"'),
        ("tls = 3", "[tls]: 3 is no table; allowed: legacy_clients"),
        ("port = 3", "port: stands outside of any table, perhaps [network] is meant; allowed: [group], [node]"),
        ("[nodes]\nx = 1", "[nodes]: there is no such table, perhaps [node] is meant; allowed: [group], [node], [netw"),
        ("[node]\nprioryty = 5", "[node] prioryty: there is no such key, perhaps priority is meant; allowed: id, name"),
        ("[node]\nzzz = 5", "[node] zzz: there is no such key; allowed: id, name, priority, eligible, sender_id"),
        ("[node]\n\npriority = \n", "not TOML: Invalid value (at line 3, column 12)"),
        ("a = " + "[" * 5000, "not TOML: "),
        ("[node]\npriority = " + "9" * 5000, "a number is far too long"),
        ("[node]\npriority = 0x" + "f" * 4000, "[node] priority: a number far too long is "),
        ("[network]\ninterfaces = [0x" + "f" * 4000 + "]", "[network] interfaces: a number far too long is "),
        ("\na" + ".a" * 129 + " = 1", "too many dots (at line 2); allowed: at most 128 in one line"),
    ],
)
def test_each_mistake_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (found,) = mistakes_in(tmp_path, text)
    assert sentence in found
    assert "; allowed: " in found


def test_all_mistakes_are_reported(tmp_path: Path) -> None:
    found = mistakes_in(tmp_path, '[node]\npriority = -1\nid = "x"\nnaame = "a"\n[log]\nlevel = 1\n[extra]\n')
    assert sorted(sentence.split(": ")[0] for sentence in found) == [
        "[extra]", "[log] level", "[node] id", "[node] naame", "[node] priority",
    ]  # fmt: skip


def test_socket_path_of_the_maximum_length_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "pskkey.toml"
    path.write_text(f'[control]\nsocket = "/{"x" * 106}"')
    assert len(str(load_config(path).control.socket)) == 107


def test_value_of_an_unknown_key_is_not_repeated(tmp_path: Path) -> None:
    (found,) = mistakes_in(tmp_path, '[psk]\nkey = "8a1f0c44e2b97d35"')
    assert "8a1f0c44e2b97d35" not in found


def test_default_group_need_not_exist_but_others_must(tmp_path: Path) -> None:
    path = tmp_path / "pskkey.toml"
    path.write_text('[handoff]\ngroups = ["pskkey"]')
    assert load_config(path).handoff.groups == ("pskkey",)
    assert len(mistakes_in(tmp_path, '[handoff]\ngroups = ["pskkey", "pskkeyz"]')) == 1


def test_missing_file_and_directory_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file or directory; allowed: "):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="fifo: cannot be read: not a regular file; allowed: "):
        load_config(tmp_path / "fifo")


def test_file_of_dotted_keys_is_refused_within_5_seconds(tmp_path: Path) -> None:
    for line, count in (("a" + ".a" * 30_000 + " = 1\n", 1), (".a" * 128 + " = 1\n", 240)):
        before = time.process_time()
        mistakes_in(tmp_path, "".join(f"b{number}{line}" for number in range(count)))
        assert time.process_time() - before < 5


def test_comment_may_have_dots(tmp_path: Path) -> None:
    path = tmp_path / "pskkey.toml"
    path.write_text(f" # {'.' * 200}\n")
    assert load_config(path) == Config()


def test_file_that_is_not_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin1.toml"
    path.write_bytes(b'[node]\nname = "M\xfcller"\n')
    with pytest.raises(ConfigError, match=r"latin1\.toml: not UTF-8 \(at line 2\); allowed: "):
        load_config(path)


def test_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.toml"
    path.write_bytes(b"#" * (1 << 16) + b"\n")
    with pytest.raises(ConfigError, match="is too large; allowed: at most 65536 bytes"):
        load_config(path)


def test_node_id_is_derived_from_the_machine_id(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    other.write_text("3d1219c7c4c5404aaa1f6d2a48adfda5\n")
    assert node_id(Config(), one) == node_id(Config(), one)
    assert re.fullmatch("[0-9a-f]{32}", node_id(Config(), one))
    assert len({node_id(Config(), one), node_id(Config(), other), one.read_text().strip()}) == 3


def test_configured_node_id_has_precedence(tmp_path: Path) -> None:
    assert node_id(Config.parse('[node]\nid = "0badcafe"', tmp_path / "x.toml"), tmp_path / "missing") == "0badcafe"


@pytest.mark.parametrize("content", [None, "", "\n", "uninitialized\n", "0" * 32, "3d1219c7", "é" * 16])
def test_missing_machine_id_is_reported(tmp_path: Path, content: str | None) -> None:
    machine_id = tmp_path / "machine-id"
    if content is not None:
        machine_id.write_text(content)
    with pytest.raises(ConfigError, match=r"machine-id: holds no machine id.*set id in table \[node\].*allowed: "):
        node_id(Config(), machine_id)


def test_first_20_of_thousands_of_mistakes_are_reported(tmp_path: Path) -> None:
    text = "".join(f"{chr(97 + number % 26)}{number} = 1\n" for number in range(5000))
    found = mistakes_in(tmp_path, f"[node]\n{text}")
    assert [sentence.partition(":")[0] for sentence in found[:2]] == ["[node] a0", "[node] b1"]
    assert (len(found), found[-1]) == (21, "and 4980 more; mend these first")
    twenty = mistakes_in(tmp_path, "[node]\n" + "".join(text.splitlines(keepends=True)[:20]))
    assert (len(twenty), "more" in twenty[-1]) == (20, False)


def test_long_name_is_cut(tmp_path: Path) -> None:
    name = "x" * 20_000
    found = mistakes_in(tmp_path, f'[{name}]\n[node]\n{name} = 1\n[tls]\nlegacy_clients = "{name}"\n')
    assert len(found) == 3
    assert all(len(sentence) < 300 for sentence in found)
