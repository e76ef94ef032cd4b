"""`python -m build` makes a wheel and a source archive that install and run in an environment of their own."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

from pskkey import __version__
from tests.quality.programs import MODULES
from tests.quality.tracked import ROOT, tracked_files

PACKAGE: Final = Path("daemon/pskkey")

pytestmark = pytest.mark.slow


def run(*command: str | Path) -> str:
    """Run a command that must succeed, outside the checkout; return its output."""
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the wheel and the source archive; the wheel is built from the archive."""
    output = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", output, ROOT)
    return output


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    return built / f"pskkey-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def archive(built: Path) -> Path:
    """The source archive."""
    return built / f"pskkey-{__version__}.tar.gz"


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if not name.startswith(f"pskkey-{__version__}.dist-info/")}
    ours = [path for path in tracked_files() if PACKAGE in path.parents]
    assert names >= {str(path.relative_to(PACKAGE.parent)) for path in ours}
    assert {PurePosixPath(name).suffix for name in names} == {".py", ".typed"}
    assert {PurePosixPath(name).parts[0] for name in names} == {"pskkey"}


def test_the_source_archive_has_everything(archive: Path) -> None:
    with tarfile.open(archive) as file:
        names = {str(PurePosixPath(*PurePosixPath(member).parts[1:])) for member in file.getnames()}
    assert names >= {str(path) for path in tracked_files() if path.name != ".gitignore"}
    assert names >= {"packaging/man/pskkeyd.8", "systemd/pskkeyd.service", "packaging/debian/rules", "PKG-INFO"}


@pytest.mark.parametrize("kind", ["wheel", "archive"])
def test_it_installs_and_runs(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    run(sys.executable, "-m", "venv", tmp_path)
    run(programs / "pip", "--disable-pip-version-check", "install", request.getfixturevalue(kind))
    assert run(programs / "pskkeyctl", "--version") == f"pskkeyctl {__version__}\n"
    assert run(programs / "pskkeyd", "--version") == f"pskkeyd {__version__}\n"
    for program in MODULES:
        assert run(programs / program, "--help").startswith(f"usage: {program}")
    assert run(programs / "mcastpeer", "2", "--duration", "0.2").count("Ret 0") == 2
    place = run(programs / "python", "-c", "import pskkey; print(pskkey.__file__)")
    assert Path(place).is_relative_to(tmp_path)
