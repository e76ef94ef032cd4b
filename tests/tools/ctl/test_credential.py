"""The messages of pskkeyctl about a PSK that the daemon may get from systemd as a credential, and not from its file."""

import asyncio
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.adapters.local.other_user import let_everybody_enter
from tests.system.ordinary_user import as_ordinary_user
from tests.tools.ctl.installed import run_installed
from tests.tools.ctl.pskkeyctl_process import MASTER, NETWORK, daemon

IN_STORE = """
mount -t tmpfs tmpfs /run
mkdir /run/credstore
touch /run/credstore/pskkey.psk
exec "$@"
"""


async def run_beside_a_credential(*arguments: str | Path) -> tuple[int | None, str, str]:
    """Run pskkeyctl where /run/credstore holds the credential."""
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-ec", IN_STORE, "", sys.executable, "-m", "pskkey.tools.ctl.pskkeyctl", *arguments,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.root
async def test_pskkeyctl_reports_that_the_daemon_reads_a_credential_instead(tmp_path: Path) -> None:
    psk, config = tmp_path / "my.psk", tmp_path / "pskkey.toml"
    psk.touch(0o600)
    psk.write_text(f"old:{secrets.token_hex(32)}\nnew:{secrets.token_hex(32)}\n")
    config.write_text(f'[node]\nid = "{"5f" * 16}"\n[psk]\nfile = "my.psk"\n')
    instead = f"systemd gives pskkeyd /run/credstore/pskkey.psk instead of {psk}\n"
    code, output, errors = await run_beside_a_credential("psk", "use", "new", "--config", config)
    assert (code, output) == (0, "")
    assert errors.startswith(f"pskkeyctl: {instead}{psk}: uses new")
    code, _, errors = await run_beside_a_credential("psk", "list", "--file", psk)
    assert (code, errors) == (0, "")
    code, output, errors = await run_beside_a_credential("check-config", "--config", config)
    assert (code, errors) == (0, "")
    assert f"pre-shared keys: {instead}" in output


HIDDEN: Final = """
rm /etc/pskkey.psk
mkdir -m 0700 /etc/credstore.encrypted
touch /etc/credstore.encrypted/pskkey.psk
"""
"""The PSK is a credential, in a directory like that of systemd: only root can look into it."""


@pytest.mark.root
async def test_check_by_an_ordinary_user_finds_no_fault_if_the_psk_may_be_a_hidden_credential() -> None:
    found = await run_installed(HIDDEN, "check-config", prefix=as_ordinary_user())
    assert found.errors == (
        "pskkeyctl: note: this user cannot see whether /etc/credstore.encrypted has a credential; "
        "run this as root for that\n"
        "pskkeyctl: note: /etc/pskkey.psk does not exist, so the pre-shared keys are not checked; "
        "run this as root for that\n"
    )
    unchecked = "/etc/pskkey.toml: ok, as far as this user can check"
    assert (found.code, found.output) == (0, f"node id: 0badcafe\n{unchecked}\n")


@pytest.mark.root
async def test_doctor_of_an_ordinary_user_finds_no_fault_if_the_psk_may_be_a_hidden_credential(tmp_path: Path) -> None:
    socket = let_everybody_enter(tmp_path) / "c"
    async with daemon(socket, MASTER, NETWORK):
        socket.chmod(0o666)
        command = ("doctor", "--json", "--config", "/etc/pskkey.toml", "--socket", str(socket))
        found = await run_installed(HIDDEN, *command, prefix=as_ordinary_user())
    rows = json.loads(found.output)["checks"]
    assert [row["text"] for row in rows if row["check"] == "psk"] == [
        "/etc/pskkey.psk does not exist, and this user cannot see whether systemd has a credential, "
        "so only TCP connections are tried, and not the PSK; run this as root for that"
    ]
    assert (found.code, [row for row in rows if not row["ok"]]) == (0, [])


@pytest.mark.root
@pytest.mark.parametrize(
    ("further", "is_root"),
    [
        ("rm /etc/pskkey.psk", False),
        ("rm /etc/pskkey.psk; mkdir -m 0755 /etc/credstore", False),
        ("rm /etc/pskkey.psk; mkdir -m 0700 /etc/credstore", True),
    ],
)
async def test_absent_psk_is_a_fault_if_this_user_sees_that_there_is_no_credential(further: str, is_root: bool) -> None:
    prefix = () if is_root else as_ordinary_user()
    fault = "/etc/pskkey.psk: the PSK file cannot be opened: it does not exist; `pskkeyctl psk generate` makes one"
    found = await run_installed(further, "check-config", prefix=prefix)
    assert (found.code, fault in found.errors) == (1, True)
    found = await run_installed(further, "doctor", prefix=prefix)
    assert f"!!  {fault}" in found.output


@pytest.mark.root
@pytest.mark.parametrize("store", ["@system", "@encrypted"])
@pytest.mark.parametrize(
    ("config", "name"), [("/etc/pskkey.toml", "pskkey.psk"), ("/etc/pskkey/plant.toml", "pskkey.plant.psk")]
)
async def test_credential_that_systemd_itself_got_is_found(store: str, config: str, name: str) -> None:
    place = f"/run/credentials/{store}"
    further = f"""
mount -t tmpfs tmpfs /run
mkdir -m 0700 -p {place} /etc/pskkey
touch {place}/{name}
rm /etc/pskkey.psk
[ -e {config} ] || cp /etc/pskkey.toml {config}
"""
    found = await run_installed(further, "check-config", "--config", config)
    assert (found.code, found.errors) == (0, "")
    assert f"pre-shared keys: only systemd can read {place}/{name}, so they are not checked\n" in found.output
    found = await run_installed(further, "doctor", "--config", config)
    assert f"ok  systemd gives the daemon its PSK from {place}/{name}, " in found.output
