"""The tests run with the versions of Debian 13, in an environment that `packaging/environment` makes."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Final

import pytest

from tests.packaging.debian_tree import DebianTree
from tests.quality.tracked import ROOT

CONSTRAINTS: Final = ROOT / "packaging" / "constraints"
RUN_TIME: Final = ("zeroconf", "pydantic", "pydantic-core", "cryptography", "sdnotify")
"""The dependencies of the Debian package; in Debian their names begin with `python3-`."""


def held(name: str) -> dict[str, str]:
    """Return the versions in a file of constraints."""
    lines = (CONSTRAINTS / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_programs_run_on_the_versions_of_debian_13() -> None:
    wanted = held("debian-13.txt")
    assert set(RUN_TIME) <= wanted.keys()
    assert {name: version(name) for name in wanted} == wanted


def test_zeroconf_is_pure_python_as_debian_ships_it() -> None:
    files = distribution("zeroconf").files or ()
    assert "zeroconf/__init__.py" in map(str, files)
    assert [str(path) for path in files if path.suffix in (".so", ".pyd")] == []


def test_every_tool_has_an_exact_version() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    (wanted,) = re.findall(r"^test = \[(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)
    tools = set(re.findall(r'"([a-z-]+)', wanted))
    assert tools
    assert tools <= held("tools.txt").keys()
    assert {name: version(name) for name in tools} == {name: held("tools.txt")[name] for name in tools}


@pytest.mark.root
@pytest.mark.slow
def test_the_constraints_have_the_versions_of_debian_13(tmp_path: Path) -> None:
    command = "apt-cache show --no-all-versions " + " ".join(f"python3-{name}" for name in RUN_TIME)
    shown = DebianTree("systemd").run(command, tmp_path)
    found = dict(re.findall(r"^Package: python3-(\S+)$.*?^Version: ([0-9.]+)", shown, re.MULTILINE | re.DOTALL))
    assert found == {name: held("debian-13.txt")[name] for name in RUN_TIME}


def test_an_environment_is_used_only_with_the_stamp_of_these_files(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "packaging", checkout / "packaging")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    stamp = checkout / ".venv" / "pskkey-stamp"
    script = ". packaging/environment; if up_to_date test; then echo used; else environment_stamp test; fi"

    def ask() -> str:
        # The scripts find the checkout by $0.
        command = ["sh", "-c", script, str(checkout / "packaging" / "test")]
        environ = {**os.environ, "PSKKEY_VERSIONS": "debian-13"}
        done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    wanted = ask()
    assert wanted.startswith("test ")
    stamp.write_text(f"{wanted}\n")
    assert ask() == "used"
    tools = checkout / "packaging" / "constraints" / "tools.txt"
    tools.write_text(tools.read_text().replace("pytest==", "pytest==1"))
    assert ask() != wanted
