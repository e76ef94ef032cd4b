"""`pskkeyctl doctor` on a machine with the package installed: what keeps the daemon from its PSK or its node id."""

import json
from typing import Any

import pytest

from tests.tools.ctl.installed import run_installed

type Row = dict[str, Any]


async def examine_installed(further: str, check: str) -> Row:
    """Run it there, after further commands of a shell. Return the one finding of a check."""
    found = await run_installed(further, "doctor", "--json")
    assert found.errors == ""
    rows: list[Row] = json.loads(found.output)["checks"]
    (row,) = (row for row in rows if row["check"] == check)
    assert bool(row["remedy"]) is not row["ok"]
    return row


@pytest.mark.root
@pytest.mark.parametrize(
    ("further", "fault"),
    [
        (
            "",
            "/etc/pskkey.psk: the daemon's user pskkey cannot read it; `chown pskkey /etc/pskkey.psk`, and give that "
            "user access to the directories above it",
        ),
        (
            "chown nobody /etc/pskkey.psk; groupadd keys; usermod -a -G keys pskkey; chgrp keys /etc/pskkey.psk; "
            "chmod 0640 /etc/pskkey.psk",
            "/etc/pskkey.psk: belongs to another user, who may change it; `chown pskkey /etc/pskkey.psk`",
        ),
        ("chown pskkey /etc/pskkey.psk", None),
        ("mkdir /etc/credstore; touch /etc/credstore/pskkey.psk", None),
        ("sed -i '/^pskkey:/d' /etc/passwd", None),
    ],
)
async def test_psk_that_the_user_of_the_daemon_cannot_use_is_a_fault(further: str, fault: str | None) -> None:
    row = await examine_installed(further, "psk")
    assert row["ok"] == (fault is None), row
    if fault is not None:
        assert row["text"] == fault
        assert row["remedy"] == "correct the PSK file, and restart or reload pskkeyd"


@pytest.mark.root
@pytest.mark.parametrize("content", [None, "", "uninitialized\n", "0" * 32])
async def test_missing_machine_id_is_a_fault_unless_the_configuration_has_a_node_id(content: str | None) -> None:
    lost = "rm -f /etc/machine-id" + ("" if content is None else f"; printf '{content}' >/etc/machine-id")
    with_id = await examine_installed(lost, "configuration")
    assert with_id["ok"], with_id
    row = await examine_installed(f"{lost}\n: >/etc/pskkey.toml", "configuration")
    assert not row["ok"]
    assert row["text"].startswith("/etc/machine-id: holds no machine id to derive the node id from; ")
    assert row["remedy"] == "run systemd-machine-id-setup, and restart pskkeyd"
