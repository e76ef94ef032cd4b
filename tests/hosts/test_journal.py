"""What an operator finds in the journal."""

import json
from typing import Any

import pytest

from tests.hosts.group import Group, current_key, status
from tests.hosts.host import Host

pytestmark = pytest.mark.root


def test_events_have_fields_and_a_fixed_id(group: Group) -> None:
    master, client = group.master, group.clients[0]
    client.run("systemctl", "restart", "pskkeyd")
    master.run("pskkeyctl", "rekey", "--wait")
    shown = group.wait_until_settled()
    client_id = status(client)["node"]["id"]

    joined = _entries(master, f"PSKKEY_PEER={client_id}")
    assert any(f"{client.name} joined" in entry["MESSAGE"] for entry in joined)
    for entry in joined:
        assert entry["PSKKEY_GROUP"] == "default"
        assert entry["PSKKEY_NODE"] == shown["node"]["id"]
        assert entry["PSKKEY_ROLE"] == "master"
        assert int(entry["PSKKEY_TERM"]) <= shown["term"]

    epoch = current_key(shown)["epoch"]
    for host in group.hosts:
        sending = [entry for entry in _entries(host, f"PSKKEY_EPOCH={epoch}") if "sending with" in entry["MESSAGE"]]
        assert sending
        # The id is the same on all, and finds it without its words.
        (identifier,) = {entry["MESSAGE_ID"] for entry in sending}
        assert all("sending with" in entry["MESSAGE"] for entry in _entries(host, f"MESSAGE_ID={identifier}"))


def test_it_is_plain_words_without_secrets(group: Group) -> None:
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
    host.run("journalctl", "--sync")
    options = ("--unit=pskkeyd", "--boot", "--output=json", "--no-pager")
    return [json.loads(line) for line in host.run("journalctl", *options, *matches).stdout.splitlines()]
