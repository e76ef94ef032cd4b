"""The PSK file: the keys that are read, the files that are refused, and refusals without a key."""

import os
import secrets
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pskkey.config.psk import find_psk_file, generate_psk_line, load_psk
from pskkey.errors import ConfigError
from tests.adapters.local.other_user import NOBODY, let_everybody_enter
from tests.system.ordinary_user import as_ordinary_user

KEY = secrets.token_hex(16)
OTHER = secrets.token_hex(32)


def write_file(directory: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path = directory / "group.psk"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def refusal(path: Path, users: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_psk(path, users, groups)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    return sentence.removeprefix(str(path))


def test_first_line_is_active_and_all_are_accepted_in_order(tmp_path: Path) -> None:
    psk = load_psk(write_file(tmp_path, f"# ours\n\nnew:{KEY.upper()}\r\nold:{OTHER}\n"))
    assert psk.active.identity == "new"
    assert psk.active.key.reveal().hex() == KEY
    assert list(psk.accepted) == ["new", "old"]
    assert psk.accepted["old"].reveal().hex() == OTHER


def test_name_changes_with_the_key_and_shows_nothing_of_it(tmp_path: Path) -> None:
    psk = load_psk(write_file(tmp_path, f"new:{KEY}\nold:{OTHER}\n"))
    again = load_psk(write_file(tmp_path, f"old:{OTHER}\nnew:{secrets.token_hex(16)}\n"))
    assert psk.active.name in psk.names
    assert psk.names & again.names == {again.active.name}, "the other one has another key"
    shown = repr([*psk.names, *again.names])
    assert not any(name.fingerprint in shown for name in psk.names | again.names)


def test_only_keeps_one_line(tmp_path: Path) -> None:
    psk = load_psk(write_file(tmp_path, f"new:{KEY}\nold:{OTHER}\n"))
    assert psk.only("old").active.key == psk.accepted["old"]
    assert list(psk.only("old").accepted) == ["old"]
    with pytest.raises(ConfigError, match="no identity 'gone'; it has 'new', 'old'"):
        psk.only("gone")


@pytest.mark.parametrize("size", [16, 512])
def test_key_sizes_at_the_bounds_are_accepted(tmp_path: Path, size: int) -> None:
    assert len(load_psk(write_file(tmp_path, f"a:{secrets.token_hex(size)}")).active.key) == size


def test_identity_of_128_bytes_of_utf_8_is_accepted(tmp_path: Path) -> None:
    identity = "ä" * 64
    assert load_psk(write_file(tmp_path, f"{identity}:{KEY}")).active.identity == identity


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (KEY, "'identity:hexkey'"),
        (f":{KEY}", "1 to 128 bytes"),
        (f"{'ä' * 65}:{KEY}", "identity of 130 bytes"),
        (f"a\u200bb:{KEY}", "printable"),
        (f"a :{KEY}", "printable"),
        (f"a:{KEY}0", "pairs of hexadecimal digits"),
        (f"a:{KEY[:8]} {KEY[8:]}", "pairs of hexadecimal digits"),
        (f"a:x{KEY[1:]}", "pairs of hexadecimal digits"),
        ("a:", "pairs of hexadecimal digits"),
        (f"a:{KEY[:30]}", "key of 15 bytes; allowed are 16 to 512"),
        (f"a:{secrets.token_hex(513)}", "key of 513 bytes"),
        ("a:" + "00" * 32, "can be guessed"),
        ("a:" + "1a2b3c4d" * 8, "can be guessed"),
        ("a:" + "0123456789abcdef" * 4, "can be guessed"),
        ("a:" + bytes(range(1, 17)).hex(), "can be guessed"),
        ("a:" + (bytes(range(1, 16)) * 4 + bytes(4)).hex(), "can be guessed"),
        ("a:" + b"abcdefghijklmnop".hex(), "can be guessed"),
        ("a:9E32CF7786321A828EF7668F09FB35DB", "can be guessed"),
        (f"new:{OTHER}", "repeats the identity"),
        (f"b:{OTHER}", "repeats the key"),
    ],
    ids=map(str, range(20)),  # the lines are random, and all processes of a parallel run need the same names
)
def test_mistake_is_reported_with_its_line_number_and_without_content(tmp_path: Path, line: str, fault: str) -> None:
    first = f"new:{OTHER}\n" if "repeats" in fault else f"new:{secrets.token_hex(16)}\n"
    sentence = refusal(write_file(tmp_path, first + line + "\n"))
    assert sentence.startswith(", line 2: ")
    assert fault in sentence
    assert "\n" not in sentence
    digits = line.rpartition(":")[2]
    assert len(digits) < 8 or digits not in sentence


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606, 0o601, 0o660, 0o620])
def test_file_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    assert "allow 0600" in refusal(write_file(tmp_path, f"a:{KEY}", mode))


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_file_of_the_owner_and_a_reading_group_is_accepted(tmp_path: Path, mode: int) -> None:
    assert load_psk(write_file(tmp_path, f"a:{KEY}", mode)).active.identity == "a"


@pytest.mark.root
@pytest.mark.parametrize(("users", "groups"), [((), ("none", "nogroup")), (("none", "nobody"), ())])
def test_file_that_handoff_users_may_read_is_refused(
    tmp_path: Path, users: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    path = write_file(tmp_path, f"a:{KEY}", 0o640)
    shutil.chown(path, group="nogroup")
    assert load_psk(path).active.identity == "a"
    assert load_psk(path, ("root",), ("daemon",)).active.identity == "a"
    with pytest.raises(ConfigError, match=r"may be read by the (group nogroup|user nobody) of \[handoff\]"):
        load_psk(path, users, groups)
    path.chmod(0o600)
    assert load_psk(path, users, groups).active.identity == "a"


@pytest.mark.root
@pytest.mark.parametrize(("tag", "users", "groups"), [(2, ("nobody",), ()), (8, (), ("nogroup",))])
def test_access_control_list_with_handoff_users_is_refused(
    tmp_path: Path, tag: int, users: tuple[str, ...], groups: tuple[str, ...]
) -> None:
    path = write_file(tmp_path, f"a:{KEY}")
    everybody = 0xFFFFFFFF
    for permissions, refused in ((0, False), (4, True)):
        # user::rw- user or group:nobody group::--- mask::r-- other::---
        entries = [(1, 6, everybody), (tag, permissions, NOBODY), (4, 0, everybody), (16, 4, everybody)]
        entries.append((32, 0, everybody))
        acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
        os.setxattr(path, "system.posix_acl_access", acl)
        assert load_psk(path).active.identity == "a"
        if refused:
            assert "of [handoff]" in refusal(path, users, groups)
        else:
            assert load_psk(path, users, groups).active.identity == "a"


@pytest.mark.root
def test_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write_file(let_everybody_enter(tmp_path), f"a:{KEY}", 0o640)
    read = "from pathlib import Path; from pskkey.config.psk import load_psk; load_psk(Path(__import__('sys').argv[1]))"
    command = [*as_ordinary_user(), sys.executable, "-c", read, str(path)]
    for owner, fault in (("root", ""), ("nobody", ""), ("daemon", "belongs to user")):
        shutil.chown(path, owner, "nogroup")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (not fault), done.stderr
        assert fault in done.stderr


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    assert "holds no PSK" in refusal(write_file(tmp_path, "# nothing\n"))
    assert "not UTF-8" in refusal(write_file(tmp_path, b"\xff\xfe\n"))
    assert "larger than" in refusal(write_file(tmp_path, "# " + "x" * 70_000))
    assert "does not exist; `pskkeyctl psk generate`" in refusal(tmp_path / "missing")
    assert "Is a directory" in refusal(tmp_path)
    unreadable = tmp_path / "link"
    unreadable.symlink_to("/proc/self/mem")  # a regular file of mode 0600 that opens, but cannot be read at address 0
    assert "cannot be opened or read: Input/output error" in refusal(unreadable)


def test_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    assert "not a regular file" in refusal(fifo)


def test_credential_of_systemd_has_precedence(tmp_path: Path) -> None:
    configured = Path("/etc/pskkey.psk")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert find_psk_file(configured, environ) == configured
    (tmp_path / "pskkey.psk").touch()
    assert find_psk_file(configured, environ) == tmp_path / "pskkey.psk"
    assert find_psk_file(None, environ) == tmp_path / "pskkey.psk"
    with pytest.raises(ConfigError, match="no PSK file"):
        find_psk_file(None, {})


def test_generated_lines_are_read_back_and_differ(tmp_path: Path) -> None:
    lines = [generate_psk_line(f"node {number}") for number in range(20)]
    psk = load_psk(write_file(tmp_path, "\n".join(lines)))
    assert len(psk.accepted) == 20
    assert all(len(key) == 32 for key in psk.accepted.values())
    with pytest.raises(ConfigError, match="colon"):
        generate_psk_line("a:b")


def test_text_of_a_loaded_file_has_no_key(tmp_path: Path) -> None:
    psk = load_psk(write_file(tmp_path, f"a:{KEY}\nb:{OTHER}\n"))
    assert KEY not in f"{psk!r} {psk}"
    assert OTHER not in f"{psk!r} {psk}"
    assert psk.active.key.reveal() not in repr(psk).encode()
