"""`pskkeyctl psk list`, `add`, `use` and `remove`: the steps to a new key, and that nothing is lost on the way."""

import asyncio
import json
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.test_pskkeyctl import Result, run

from pskkey.psk import load_psk

OLD, NEW = (f"{identity}:{secrets.token_hex(32)}" for identity in ("old", "new"))
SAID = "now `systemctl reload pskkeyd`\n"


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def accepted(path: Path) -> list[str]:
    return list(load_psk(path).accepted)


async def piped(text: str, *arguments: str | Path) -> Result:
    """Run pskkeyctl with this on its standard input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pskkey.tools.pskkeyctl", *arguments,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(text.encode()), 20)
    return Result(process.returncode, output.decode(), errors.decode())


async def test_the_steps_to_a_new_key(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"# the plant\n\n{OLD}\n# end", 0o640)
    before = psk.stat()
    added = await piped(f"{NEW}\n", "psk", "add", "-", "--file", psk)
    assert added == Result(0, "", f"{psk}: accepts new too, and uses old; {SAID}")
    assert accepted(psk) == ["old", "new"]
    used = await run("psk", "use", "new", "--file", psk)
    assert used == Result(0, "", f"{psk}: uses new; {SAID}")
    assert accepted(psk) == ["new", "old"]
    removed = await run("psk", "remove", "old", "--file", psk)
    assert removed == Result(0, "", f"{psk}: accepts old no more; {SAID}")
    assert psk.read_text() == f"# the plant\n\n{NEW}\n# end\n"
    after = psk.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert files(tmp_path) == ["group.psk"]


async def test_list_shows_identities_and_no_key(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    listed = await run("psk", "list", "--file", psk)
    assert listed == Result(0, "old  in use\nnew  accepted\n", "")
    as_json = await run("psk", "list", "--file", psk, "--json")
    assert json.loads(as_json.output) == {
        "schema": 1, "file": str(psk), "in_use": "old", "accepted": ["old", "new"],
    }  # fmt: skip


async def test_the_file_is_that_of_the_configuration(tmp_path: Path) -> None:
    written(tmp_path / "my.psk", f"{OLD}\n")
    config = written(tmp_path / "pskkey.toml", '[psk]\nfile = "my.psk"\n')
    assert (await run("psk", "list", "--config", config)).output == "old  in use\n"
    missing = await run("psk", "list", "--config", tmp_path / "none.toml")
    assert (missing.code, missing.output) == (1, "")


@pytest.mark.parametrize(
    ("verb", "argument", "said"),
    [
        ("add", "same", "line 3: repeats the identity of a line above"),
        ("add", "wrong", "line 3: is not of the form 'identity:hexkey'"),
        ("add", "empty", "holds no line to add"),
        ("add", "none", "cannot be read: No such file or directory"),
        ("use", "third", "has no identity third; it has old, new"),
        ("remove", "third", "has no identity third; it has old, new"),
        ("remove", "old", "old is in use; `pskkeyctl psk use` another one before"),
    ],
)
async def test_what_cannot_be_done_changes_nothing(tmp_path: Path, verb: str, argument: str, said: str) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    key = secrets.token_hex(32)
    for name, text in (("same", f"new:{key}\n"), ("wrong", f"{key}\n"), ("empty", "\n")):
        written(tmp_path / name, text)
    before = files(tmp_path)
    named = tmp_path / argument if verb == "add" else argument
    result = await run("psk", verb, named, "--file", psk)
    assert (result.code, result.output) == (1, "")
    assert result.errors.startswith("pskkeyctl: ")
    assert said in result.errors
    assert len(result.errors.splitlines()) == 1
    assert psk.read_text() == f"{OLD}\n{NEW}\n"
    assert files(tmp_path) == before
    for secret in (key, OLD.partition(":")[2], NEW.partition(":")[2]):
        assert secret not in result.errors


async def test_a_key_given_as_an_identity_is_not_repeated(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    result = await run("psk", "use", NEW, "--file", psk)
    assert result.code == 1
    assert NEW.partition(":")[2] not in result.errors


async def test_a_link_stays_one(tmp_path: Path) -> None:
    psk = written(tmp_path / "group.psk", f"{OLD}\n{NEW}\n")
    link = tmp_path / "link"
    link.symlink_to(psk)
    assert (await run("psk", "use", "new", "--file", link)).code == 0
    assert link.is_symlink()
    assert accepted(psk) == ["new", "old"]
