"""The entries of the daemon in the journal."""

import json
from typing import Any

import pytest

from tests.hosts.group import DAEMON, Group, current_key, status
from tests.hosts.host import Host

MEMBER_JOINED = "834ee85d97864982b9a6b5ba22d9984f"
SENDING = "284a1fc8f2d0450ea7924ce6869d01cf"
"""Message ids from pskkeyd(8): a node joined the master; the node sends with another key."""

pytestmark = pytest.mark.root


def test_events_have_fields_and_a_fixed_id(group: Group) -> None:
    master, client = group.master, group.clients[0]
    client.run("systemctl", "restart", "pskkeyd")
    master.run("pskkeyctl", "rekey", "--wait")
    shown = group.wait_until_settled()
    client_id = status(client)["node"]["id"]

    joined = _entries(master, f"PSKKEY_PEER={client_id}", f"MESSAGE_ID={MEMBER_JOINED}")
    assert joined
    for entry in joined:
        assert entry["MESSAGE"].startswith(f"{client.name} joined")
        assert entry["PSKKEY_GROUP"] == "default"
        assert entry["PSKKEY_NODE"] == shown["node"]["id"]
        assert entry["PSKKEY_ROLE"] == "master"
        assert int(entry["PSKKEY_TERM"]) <= shown["term"]

    epoch = current_key(shown)["epoch"]
    for host in group.hosts:
        sending = _entries(host, f"PSKKEY_EPOCH={epoch}", f"MESSAGE_ID={SENDING}")
        assert len(sending) == 1
        assert sending[0]["MESSAGE"].startswith(f"activated key epoch {epoch}, ")


def test_journal_has_no_traceback_and_no_secret(group: Group) -> None:
    secret = group.psk.split(":")[1].strip()
    for host in group.hosts:
        entries = _entries(host)
        assert entries
        for entry in entries:
            assert isinstance(entry["MESSAGE"], str)
            assert "Traceback" not in entry["MESSAGE"]
            assert not any(secret in str(value) for value in entry.values())


def _entries(host: Host, *matches: str) -> list[dict[str, Any]]:
    """Return the daemon's journal entries of this boot (journalctl(1), systemd.journal-fields(7))."""
    return [json.loads(line) for line in host.journal(*DAEMON, *matches, output="json").splitlines()]
