"""`pskkeyctl psk add`, `use` and `remove` change the lines of the PSK file, and keep all else of it."""

import asyncio
import os
import secrets
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from pskkey.config.psk import load_psk
from tests.adapters.local.other_user import NOBODY, let_everybody_enter
from tests.system.ordinary_user import as_ordinary_user
from tests.tools.ctl.pskkeyctl_process import Result

OLD, NEW, MORE = (f"{identity}:{secrets.token_hex(32)}" for identity in ("old", "new", "more"))
VERBS: Final = {"add": ["old", "new", "more"], "use": ["new", "old"], "remove": ["old"]}
"""The identities after a verb, of a file that had old and new."""

ACL_VERSION: Final = struct.pack("<I", 2)
CAPABILITY: Final = struct.pack("<5I", 0x02000001, 1, 0, 0, 0)
"""`struct vfs_cap_data` of <linux/capability.h>: CAP_CHOWN."""
ATTRIBUTES: Final = {"user.note": b"ours", "trusted.note": b"ours", "security.note": b"ours"}


def access_control_list(*entries: tuple[int, int, int]) -> bytes:
    """Return the list of acl(5) with these entries (tag, permissions, user), and no other user or group."""
    nobody_else = 0xFFFFFFFF
    own = [(1, 6, nobody_else), (4, 0, nobody_else), (0x10, 4, nobody_else), (0x20, 0, nobody_else)]
    return ACL_VERSION + b"".join(struct.pack("<HHI", *entry) for entry in sorted([*own, *entries]))


READABLE_BY_DAEMON: Final = access_control_list((2, 4, 54321))


@dataclass
class Place:
    """A PSK file at `psk`, the name for pskkeyctl, and how pskkeyctl is run."""

    psk: Path
    name: Path
    mount: str = ""
    prefix: tuple[str, ...] = ()
    stays_one_file: bool = False

    async def run(self, verb: str, script: str = "from pskkey.tools.ctl.pskkeyctl import main") -> Result:
        """Run a verb, in a mount namespace of its own, in a process that begins with this script."""
        more = self.psk.parent / "more"
        argument = {"add": str(more), "use": "new", "remove": "new"}[verb]
        process = await asyncio.create_subprocess_exec(
            "unshare", "--mount", "sh", "-ec", f'{self.mount}\nexec "$@"', "sh",
            *self.prefix, sys.executable, "-c", f"import sys\n{script}\nsys.exit(main(sys.argv[1:]))",
            "psk", verb, argument, "--file", self.name,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), 30)
        return Result(process.returncode, output.decode(), errors.decode())


def looks(path: Path) -> object:
    """Return all that must stay, except the content."""
    found = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return found.st_uid, found.st_gid, found.st_mode, attributes


def files(directory: Path) -> list[str]:
    """Return the names of all files and directories below a directory."""
    return sorted(str(path) for path in directory.rglob("*"))


def accepted(path: Path) -> list[str]:
    """Return the identities of a PSK file."""
    return list(load_psk(path).accepted)


def make(directory: Path, lines: str = f"# the plant\n{OLD}\n{NEW}\n") -> Path:
    """Make a PSK file in a directory of its own, beside a file with a line to add."""
    inside = let_everybody_enter(directory) / "inside"
    inside.mkdir()
    psk, more = inside / "group.psk", inside / "more"
    for path, text in ((psk, lines), (more, f"{MORE}\n")):
        path.touch(0o600)
        path.write_text(text)
    return psk


def place(kind: str, directory: Path) -> Place:
    """Return a PSK file of one of the kinds."""
    psk = make(directory)
    other = directory / "other"
    match kind:
        case "file":
            return Place(psk, psk)
        case "symbolic link":
            other.symlink_to("inside/group.psk")
            return Place(psk, other)
        case "hard link":
            other.hardlink_to(psk)
            return Place(psk, other, stays_one_file=True)
        case "bind mount":
            other.touch()
            return Place(psk, other, f"mount --bind '{psk}' '{other}'", stays_one_file=True)
        case "bind mount in another file system":
            mount = f"mount -t tmpfs tmpfs '{other}'\ntouch '{other}/psk'\nmount --bind '{psk}' '{other}/psk'"
            other.mkdir()
            return Place(psk, other / "psk", mount, stays_one_file=True)
        case "closed directory":
            shutil.chown(psk, NOBODY, NOBODY)
            (psk.parent / "more").chmod(0o644)
            return Place(psk, psk, prefix=as_ordinary_user(), stays_one_file=True)
        case "attribute that the user may not give":
            for path in (psk.parent, psk, psk.parent / "more"):
                shutil.chown(path, NOBODY, NOBODY)
            return Place(psk, psk, prefix=as_ordinary_user(), stays_one_file=True)
    raise ValueError(kind)


KINDS: Final = (
    "file",
    "symbolic link",
    "hard link",
    "bind mount",
    "bind mount in another file system",
    "closed directory",
    "attribute that the user may not give",
)


@pytest.mark.root
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
async def test_change_keeps_owner_mode_and_attributes(tmp_path: Path, kind: str, verb: str) -> None:
    at = place(kind, tmp_path)
    for name, value in ATTRIBUTES.items():
        os.setxattr(at.psk, name, value)
    os.setxattr(at.psk, "system.posix_acl_access", READABLE_BY_DAEMON)
    if not at.prefix:
        os.chown(at.psk, 12345, 54322)
    before, there, inode = looks(at.psk), files(tmp_path), at.psk.stat().st_ino
    result = await at.run(verb)
    assert result.code == 0, result.errors
    assert accepted(at.psk) == VERBS[verb]
    assert at.psk.read_text().startswith("# the plant\n")
    assert looks(at.psk) == before
    assert files(tmp_path) == there
    assert at.name.is_symlink() == (kind == "symbolic link")
    assert (at.psk.stat().st_ino == inode) == at.stays_one_file


@pytest.mark.root
async def test_file_gets_nothing_from_the_default_list_of_its_directory(tmp_path: Path) -> None:
    at = place("file", tmp_path)
    before = looks(at.psk)
    os.setxattr(at.psk.parent, "system.posix_acl_default", READABLE_BY_DAEMON)
    assert (await at.run("use")).code == 0
    assert accepted(at.psk) == ["new", "old"]
    assert looks(at.psk) == before


@pytest.mark.root
async def test_copy_of_a_killed_change_that_cannot_be_removed_hinders_no_change(tmp_path: Path) -> None:
    at = place("closed directory", tmp_path)
    copies = [at.psk.with_name(f".group.psk.pskkey-{digit * 16}") for digit in "12"]
    for copy in copies:
        shutil.copyfile(at.psk, copy)
    result = await at.run("use")
    pattern = f"{at.psk.parent}/.group.psk.pskkey-*"
    why = "a change that was killed left a copy of the keys, which cannot be removed: Permission denied; remove it"
    note, _ = result.errors.splitlines()
    assert (result.code, note) == (0, f"pskkeyctl: note: {pattern}: {why}")
    assert accepted(at.psk) == ["new", "old"]
    as_root = await Place(at.psk, at.psk).run("add")
    assert (as_root.code, [copy for copy in copies if copy.exists()]) == (0, [])


PERMISSIONS_CHECKED = """
import os
def checked(call):
    def check_and_call(file, *arguments):
        assert os.stat(file).st_size == 0, "the new file has content already"
        call(file, *arguments)
    return check_and_call
os.fchown, os.fchmod, os.setxattr = map(checked, (os.fchown, os.fchmod, os.setxattr))
from pskkey.tools.ctl.pskkeyctl import main
"""


@pytest.mark.root
async def test_new_file_has_its_permissions_before_its_content(tmp_path: Path) -> None:
    at = place("file", tmp_path)
    os.setxattr(at.psk, "system.posix_acl_access", READABLE_BY_DAEMON)
    result = await at.run("use", PERMISSIONS_CHECKED)
    assert result.code == 0, result.errors
    assert accepted(at.psk) == ["new", "old"]


STEPS_CHECKED = """
import os
from pathlib import Path
from pskkey.config.psk import load_psk
def checked(call):
    def call_and_check(*arguments):
        result = call(*arguments)
        print(call.__name__, ",".join(load_psk(Path(sys.argv[-1])).accepted))
        return result
    return call_and_check
os.pwrite, os.ftruncate, os.fsync = map(checked, (os.pwrite, os.ftruncate, os.fsync))
from pskkey.tools.ctl.pskkeyctl import main
"""


@pytest.mark.root
@pytest.mark.parametrize("verb", VERBS)
async def test_each_step_in_place_leaves_all_former_or_all_new_keys(tmp_path: Path, verb: str) -> None:
    at = place("hard link", tmp_path)
    result = await at.run(verb, STEPS_CHECKED)
    assert result.code == 0, result.errors
    seen = [line.split()[1].split(",") for line in result.output.splitlines()]
    assert len(seen) >= 4
    switched = seen.index(VERBS[verb])
    assert seen == [["old", "new"]] * switched + [VERBS[verb]] * (len(seen) - switched)


FAILS_IN_PLACE = """
import errno, os
truncate, pwrite = os.ftruncate, os.pwrite
def fail_once(*arguments):
    os.ftruncate = truncate
    os.pwrite = {pwrite}
    raise OSError(errno.EIO, os.strerror(errno.EIO))
os.ftruncate = fail_once
from pskkey.tools.ctl.pskkeyctl import main
"""


@pytest.mark.root
@pytest.mark.parametrize("verb", VERBS)
async def test_write_in_place_that_fails_restores_the_former_content(tmp_path: Path, verb: str) -> None:
    at = place("hard link", tmp_path)
    before = at.psk.read_bytes()
    result = await at.run(verb, FAILS_IN_PLACE.format(pwrite="pwrite"))
    assert result.code == 1
    assert "it cannot be written in place: Input/output error" in result.errors
    assert at.psk.read_bytes() == before


@pytest.mark.root
async def test_former_content_that_cannot_be_restored_is_reported(tmp_path: Path) -> None:
    at = place("hard link", tmp_path)
    result = await at.run("use", FAILS_IN_PLACE.format(pwrite="fail_once"))
    assert result == Result(
        1,
        "",
        f"pskkeyctl: {at.name}: the write failed, and so did the return to the former content: Input/output error; "
        "copy the file from another node\n",
    )


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a directory with a file system of its own, of 64 KiB."""
    mounted = let_everybody_enter(tmp_path) / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mounted], check=True)
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def fill(directory: Path) -> None:
    """Fill the file system of a directory. Raises OSError when it is full."""
    with (directory / "rest").open("wb", buffering=0) as rest:
        while True:
            rest.write(bytes(4096))


@pytest.mark.root
async def test_full_file_system_changes_nothing(tmp_path: Path, small: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    psk = make(small, f"{OLD}\n{NEW}\n#{'x' * 3900}\n")
    with pytest.raises(OSError, match="No space left"):
        fill(small)
    there, before = files(small), psk.read_bytes()
    replaced = await Place(psk, psk).run("add")
    assert replaced == Result(1, "", f"pskkeyctl: {psk}: cannot be written: No space left on device\n")
    mounted = Place(psk, other, f"mount --bind '{psk}' '{other}'")
    written = await mounted.run("add")
    assert (written.code, "it cannot be written in place: No space left on device" in written.errors) == (1, True)
    assert psk.read_bytes() == before
    assert files(small) == there
    assert (await mounted.run("remove")).code == 0, "a shorter content needs no space"
    assert accepted(psk) == ["old"]


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "mount", "why", "error"),
    [
        ("bind mount", "mount -o remount,bind,ro '{}'", "it is a mount of its own", "Read-only file system"),
        ("closed directory", "chown root '{}'", "that is refused (Permission denied)", "Permission denied"),
        ("hard link", "", "it has several names (hard links)", "its file capabilities would be lost"),
        ("file", "", "a new file does not get all of its attributes", "its file capabilities would be lost"),
    ],
)
async def test_file_that_cannot_be_changed_is_reported(
    tmp_path: Path, kind: str, mount: str, why: str, error: str
) -> None:
    at = place(kind, tmp_path)
    if "capabilities" in error:
        os.setxattr(at.psk, "security.capability", CAPABILITY)
    elif kind == "closed directory":
        os.setxattr(at.psk, "system.posix_acl_access", access_control_list((2, 4, NOBODY)))
    at.mount += f"\n{mount.format(at.name)}"
    there, before = files(tmp_path), at.psk.read_bytes()
    result = await at.run("use")
    assert (result.code, result.output) == (1, "")
    assert result.errors.startswith(
        f"pskkeyctl: {at.name}: cannot be changed: a new file cannot replace it, because {why}, and it cannot be "
        f"written in place: {error}"
    )
    assert result.errors.endswith("; change the file at its origin, or as a user that may write it\n")
    assert at.psk.read_bytes() == before
    assert files(tmp_path) == there
