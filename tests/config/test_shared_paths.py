"""Two files of the daemon never have one path, whether a path is in the file or a default."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pskkey.config.schema import Config
from pskkey.errors import ConfigError
from tests.psk_files import write_psk
from tests.tools.ctl.pskkeyctl_process import run

PSKKEYD = Path(sys.executable).with_name("pskkeyd")


def mistakes_in(text: str, source: Path) -> list[str]:
    """Return the sentences about this configuration, without the name of its file."""
    with pytest.raises(ConfigError) as caught:
        Config.parse(text, source)
    return [line.removeprefix(f"{source}: ") for line in str(caught.value).split("\n")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '[handoff]\nsocket = "/run/pskkey/control.sock"',
            '[control] socket: "/run/pskkey/control.sock" is also the path of [handoff] socket; allowed: a path of at',
        ),
        (
            '[control]\nsocket = "/run/pskkey/keys.sock"',
            '[control] socket: "/run/pskkey/keys.sock" is also the path of [handoff] socket; allowed: a path of at',
        ),
        (
            '[handoff]\nsocket = "/x/a"\n[control]\nsocket = "/x/b/../a"',
            '[control] socket: "/x/b/../a" is also the path of [handoff] socket; allowed: a path of at most 107 bytes',
        ),
        (
            '[handoff]\nsocket = "/etc/pskkey.psk"',
            '[handoff] socket: "/etc/pskkey.psk" is also the path of [psk] file; allowed: a path of at most 107 bytes',
        ),
        (
            '[psk]\nfile = "/run/pskkey/control.sock"',
            '[control] socket: "/run/pskkey/control.sock" is also the path of [psk] file; allowed: a path of at most',
        ),
        (
            '[psk]\nfile = "pskkey.toml"',
            '[psk] file: "/etc/pskkey.toml" is also the path of the configuration file; allowed: the path of a file',
        ),
        (
            '[control]\nsocket = "pskkey.toml"',
            '[control] socket: "/etc/pskkey.toml" is also the path of the configuration file; allowed: a path of at',
        ),
    ],
)
def test_path_that_two_files_have_is_refused(text: str, sentence: str) -> None:
    (found,) = mistakes_in(text, Path("/etc/pskkey.toml"))
    assert found.startswith(sentence)


def test_each_of_several_shared_paths_has_a_sentence() -> None:
    text = '[psk]\nfile = "a"\n[handoff]\nsocket = "a"\n[control]\nsocket = "a"'
    found = mistakes_in(text, Path("/etc/pskkey.toml"))
    assert [sentence.partition(":")[0] for sentence in found] == ["[handoff] socket", "[control] socket"]


def test_paths_that_a_link_makes_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    text = '[handoff]\nsocket = "run/a.sock"\n[control]\nsocket = "{}/a.sock"'
    (found,) = mistakes_in(text.format("var"), tmp_path / "pskkey.toml")
    assert "is also the path of [handoff] socket" in found
    Config.parse(text.format("other"), tmp_path / "pskkey.toml")


async def test_every_program_that_reads_the_configuration_refuses_it(tmp_path: Path) -> None:
    config = tmp_path / "pskkey.toml"
    write_psk(tmp_path / "my.psk", "plant")
    config.write_text(
        '[node]\nid = "0badcafe"\n[psk]\nfile = "my.psk"\n[handoff]\nsocket = "/run/pskkey/control.sock"\n'
    )
    sentence = f'{config}: [control] socket: "/run/pskkey/control.sock" is also the path of [handoff] socket; allowed: '
    checked = await run("check-config", "--config", config)
    assert (checked.code, checked.errors.startswith(f"pskkeyctl: {sentence}")) == (1, True)
    for more in ((), ("--check-config",)):
        done = subprocess.run([PSKKEYD, "--config", config, *more], capture_output=True, text=True, check=False)  # noqa: ASYNC221
        assert (done.returncode, sentence in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("directory", "is in the way and no socket; remove it or set another socket path"),
        ("file", "is in the way and no socket; remove it or set another socket path"),
        ("link", "is in the way and no socket; remove it or set another socket path"),
        ("file above", "cannot be made: the daemon makes only the last directory of the path; make those above it"),
        ("nothing above", "cannot be made: the daemon makes only the last directory of the path; make those above it"),
        ("new directory", ""),
        ("socket", ""),
    ],
)
async def test_socket_that_the_daemon_could_not_make_is_refused(tmp_path: Path, kind: str, text: str) -> None:
    write_psk(tmp_path / "my.psk", "plant")
    path = tmp_path / "keys.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        match kind:
            case "directory":
                path.mkdir()
            case "file":
                path.touch()
            case "link":
                path.symlink_to("nothing")
            case "file above":
                path = tmp_path / "my.psk" / "keys.sock"
            case "nothing above":
                path = tmp_path / "a" / "b" / "keys.sock"
            case "new directory":
                path = tmp_path / "a" / "keys.sock"
            case "socket":
                listening.bind(str(path))
        config = tmp_path / "pskkey.toml"
        config.write_text(f'[node]\nid = "0badcafe"\n[psk]\nfile = "my.psk"\n[handoff]\nsocket = "{path}"\n')
        checked = await run("check-config", "--config", config)
    assert checked.errors == (f"pskkeyctl: {config}: [handoff] socket: {path} {text}\n" if text else "")
    assert checked.code == (1 if text else 0)
