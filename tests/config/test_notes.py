"""`pskkeyctl check-config` notes each setting that does not have its full effect, with the defaults of the others."""

from pathlib import Path

import pytest

from pskkey.config.notes import list_notes
from pskkey.config.schema import Config
from tests.psk_files import write_psk
from tests.tools.ctl.pskkeyctl_process import run


def notes_on(text: str) -> list[str]:
    """Return the notes on this configuration."""
    return list(list_notes(Config.parse(text, Path("/etc/pskkey.toml"))))


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "[node]\neligible = false",
            "[node] eligible: false, so this node never becomes master; a group needs at least one node with eligible "
            "= true",
        ),
        (
            '[network]\nip = "v4"\ninterfaces = ["eth0", "10.0.0.1", "fe80::a%eth0"]',
            '[network] interfaces: fe80::a%eth0 has no effect, because ip = "v4" excludes it',
        ),
        (
            '[network]\nip = "v6"\ninterfaces = ["10.0.0.1"]',
            '[network] interfaces: 10.0.0.1 has no effect, because ip = "v6" excludes it',
        ),
        (
            '[network]\naddresses = ["127.0.0.1"]',
            "[network] addresses: 127.0.0.1 is loopback, so no node of another machine can connect to it",
        ),
        (
            '[network]\naddresses = ["192.0.2.1", "fe80::a%eth0", "::1"]',
            "[network] addresses: ::1 is loopback, so no node of another machine can connect to it",
        ),
        (
            "[key]\nrekey_interval = 60\nretire_after = 109",
            "[key] retire_after: 109 is more than 1.8 times rekey_interval = 60; a node holds at most three keys, so "
            "it may drop an old key after 108 s",
        ),
        (
            "[key]\nrekey_interval = 10\nactivation_deadline = 11\nretire_after = 13",
            "[key] rekey_interval: 10 is less than activation_deadline = 11; a member that does not answer may delay "
            "each new key so long",
        ),
        (
            "[key]\nexpires_after = 5.9",
            "[key] expires_after: 5.9 is less than 4 times dead_after = 1.5; session managers may stop sending during "
            "a change of the master",
        ),
        (
            "[key]\nactivation_deadline = 8.5",
            "[key] retire_after: 10 is less than activation_deadline + 2 = 10.5; datagrams may be lost after a split",
        ),
        (
            "[key]\nretire_after = 6.9",
            "[key] retire_after: 6.9 is less than activation_deadline + 2 = 7; datagrams may be lost after a split",
        ),
        (
            "[limits]\nmembers = 1282",
            "[limits] connections: 1280 is less than members = 1282 without this node; as master it has at most 1281 "
            "members, itself included",
        ),
        (
            "[limits]\nconnections = 1022",
            "[limits] connections: 1022 is less than members = 1024 without this node; as master it has at most 1023 "
            "members, itself included",
        ),
        (
            "[limits]\nconnections_per_address = 1281",
            "[limits] connections_per_address: 1281 is more than connections = 1280, which applies to all addresses "
            "together",
        ),
        (
            '[network]\ninterfaces = ["eth0", "eth1", "eth0"]',
            "[network] interfaces: eth0 stands there twice; perhaps another name is meant",
        ),
        (
            '[control]\nusers = ["root", "root"]',
            "[control] users: root stands there twice; perhaps another name is meant",
        ),
    ],
)
def test_setting_without_its_full_effect_has_a_note(text: str, note: str) -> None:
    assert notes_on(text) == [note]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[key]\nrekey_interval = 10",
        '[network]\naddresses = ["192.0.2.1", "fe80::a%eth0"]',
        "[key]\nrekey_interval = 60\nretire_after = 108",
        "[key]\nretire_after = 3600",
        "[key]\nexpires_after = 6",
        "[key]\nretire_after = 7",
        "[limits]\nmembers = 1281",
        '[network]\nip = "v4"\ninterfaces = ["eth0", "10.0.0.1"]',
        "[limits]\nconnections = 1023",
        "[limits]\nmembers = 10\nconnections = 9",
    ],
)
def test_setting_at_its_bound_has_no_note(text: str) -> None:
    assert not notes_on(text)


async def test_check_prints_notes_and_succeeds(tmp_path: Path) -> None:
    config, psk = tmp_path / "my.toml", write_psk(tmp_path / "my.psk", "plant")
    sockets = '[handoff]\nsocket = "k"\n[control]\nsocket = "c"\n'
    config.write_text(f'{sockets}[node]\nid = "0badcafe"\neligible = false\n[psk]\nfile = "my.psk"\n')
    found = await run("check-config", "--config", config)
    assert (found.code, found.output) == (0, f"node id: 0badcafe\npre-shared keys: 1 in {psk}\n{config}: ok\n")
    assert found.errors.startswith("pskkeyctl: note: [node] eligible: false, so this node never becomes master; ")
