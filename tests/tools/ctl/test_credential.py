"""The message of pskkeyctl about a PSK file that the daemon does not read, because systemd gives it a credential."""

import asyncio
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

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
