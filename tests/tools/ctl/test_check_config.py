"""`pskkeyctl check-config`: files that the daemon's user may not read, and files that we may not look at."""

import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.local.other_user import let_everybody_enter
from tests.system.ordinary_user import as_ordinary_user
from tests.tools.ctl.installed import run_installed
from tests.tools.ctl.pskkeyctl_process import Result, run


@pytest.mark.root
@pytest.mark.parametrize(
    ("further", "code", "message"),
    [
        ("chown pskkey /etc/pskkey.psk", 0, ""),
        (
            "",
            1,
            "pskkeyctl: /etc/pskkey.psk: the daemon's user pskkey cannot read it; `chown pskkey /etc/pskkey.psk`, "
            "and give that user access to the directories above it\n",
        ),
        (
            "chgrp pskkey /etc/pskkey.psk; chmod 0640 /etc/pskkey.psk",
            1,
            "pskkeyctl: /etc/pskkey.psk: the PSK file may be read by the group pskkey of [handoff], and a user with "
            "the PSK may become master; allow 0600, or 0640 with a group of its own\n",
        ),
        (
            "chown nobody /etc/pskkey.psk; groupadd keys; usermod -a -G keys pskkey; chgrp keys /etc/pskkey.psk; "
            "chmod 0640 /etc/pskkey.psk",
            1,
            "pskkeyctl: /etc/pskkey.psk: belongs to another user, who may change it; `chown pskkey /etc/pskkey.psk`\n",
        ),
        ("mkdir -p /etc/credstore; touch /etc/credstore/pskkey.psk", 0, ""),
    ],
)
async def test_check_by_root_reports_what_the_daemon_may_not_read(further: str, code: int, message: str) -> None:
    found = await run_installed(further, "check-config")
    assert (found.code, found.errors) == (code, message)
    assert found.output.endswith("/etc/pskkey.toml: ok\n") == (code == 0)


@pytest.mark.root
async def test_check_by_an_ordinary_user_reports_what_was_not_checked() -> None:
    closed = "mkdir -p /etc/credstore.encrypted; chmod 0700 /etc/credstore.encrypted"
    found = await run_installed(closed, "check-config", prefix=as_ordinary_user())
    unchecked = "/etc/pskkey.toml: ok, as far as this user can check"
    assert (found.code, found.output) == (0, f"node id: 0badcafe\n{unchecked}\n")
    assert found.errors == (
        "pskkeyctl: note: this user cannot see whether /etc/credstore.encrypted has a credential; "
        "run this as root for that\n"
        "pskkeyctl: note: this user cannot read /etc/pskkey.psk, so the pre-shared keys are not checked; "
        "run this as root for that\n"
    )


@pytest.mark.root
async def test_visible_credential_is_named_to_an_ordinary_user() -> None:
    stored = "mkdir -p /etc/credstore; chmod 0755 /etc/credstore; touch /etc/credstore/pskkey.psk; rm /etc/pskkey.psk"
    stored += "; chmod 0600 /etc/credstore/pskkey.psk"
    found = await run_installed(stored, "check-config", prefix=as_ordinary_user())
    assert (found.code, found.errors) == (0, "")
    text = "pre-shared keys: only systemd can read /etc/credstore/pskkey.psk, so they are not checked\n"
    assert text in found.output


@pytest.mark.root
def test_user_with_a_daemon_of_their_own_must_be_able_to_read_its_keys(tmp_path: Path) -> None:
    psk, config = let_everybody_enter(tmp_path) / "my.psk", tmp_path / "my.toml"
    psk.touch(0o600)
    psk.write_text(f"plant:{secrets.token_hex(32)}\n")
    config.write_text('[node]\nid = "0badcafe"\n[psk]\nfile = "my.psk"\n')
    command = [
        *as_ordinary_user(),
        sys.executable,
        "-m",
        "pskkey.tools.ctl.pskkeyctl",
        "check-config",
        "--config",
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{psk}: the PSK file cannot be opened or read: Permission denied\n")
    shutil.chown(psk, "nobody")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0


async def test_missing_interface_is_a_note(tmp_path: Path) -> None:
    psk, config = tmp_path / "my.psk", tmp_path / "my.toml"
    await run("psk", "generate", "--output", psk)
    wanted = '["lo", "nosuch0", "127.0.0.1", "192.0.2.77", "2001:db8::77"]'
    config.write_text(f'[node]\nid = "0badcafe"\n[network]\ninterfaces = {wanted}\n[psk]\nfile = "my.psk"\n')
    found = await run("check-config", "--config", config)
    assert found == Result(0, f"node id: 0badcafe\npre-shared keys: 1 in {psk}\n{config}: ok\n", found.errors)
    missing = "nosuch0 and no 192.0.2.77 and no 2001:db8::77"
    assert found.errors.startswith(f"pskkeyctl: note: [network] interfaces: this machine has no {missing} now; it has")
    assert found.errors.endswith("; the daemon uses them when they appear\n")


@pytest.mark.parametrize("missing", [(), ("192.0.2.77", "fe80::77%nosuch0")])
async def test_missing_address_of_the_key_server_is_a_note(tmp_path: Path, missing: tuple[str, ...]) -> None:
    psk, config = tmp_path / "my.psk", tmp_path / "my.toml"
    await run("psk", "generate", "--output", psk)
    network = f"[network]\naddresses = {json.dumps(['127.3.4.5', *missing])}\n"
    sockets = '[handoff]\nsocket = "k"\n[control]\nsocket = "c"\n'
    config.write_text(f'{network}{sockets}[node]\nid = "0badcafe"\n[psk]\nfile = "my.psk"\n')
    found = await run("check-config", "--config", config)
    assert found.code == 0
    loopback = "[network] addresses: 127.3.4.5 is loopback, so no node of another machine can connect to it"
    absent = [
        f"[network] addresses: this machine has no {address} now; the daemon listens there when it appears"
        for address in missing
    ]
    assert found.errors.splitlines() == [f"pskkeyctl: note: {note}" for note in (loopback, *absent)]
