"""The systemd units are well formed and sandboxed as promised; those for one group equal those for several."""

import re
import subprocess
from difflib import unified_diff
from pathlib import Path
from shutil import copytree
from typing import Final

import pytest

from pskkey.config.schema import DEFAULT_CONFIG, Config
from pskkey.tools.ctl.setup_verbs import stored_credential
from tests.packaging.debian_tree import DebianTree
from tests.quality.tracked import ROOT

UNITS: Final = ROOT / "systemd"
SERVICES: Final = ("pskkeyd.service", "pskkeyd@.service")
STORES: Final = {
    f"{directory}/{store}"
    for directory in ("/etc", "/run", "/usr/lib")
    for store in ("credstore", "credstore.encrypted")
}
"""The directories of credentials that systemd may give a service (systemd.exec(5), ImportCredential=)."""
HANDED_TO_SYSTEMD: Final = {"/run/credentials/@system", "/run/credentials/@encrypted"}
"""The directories of credentials that systemd itself got at boot (systemd.exec(5), systemd-creds(1))."""
IDLE_MIB: Final = 42
SESSION_MIB: Final = 0.0625
"""Measured: the memory of an idle daemon. The most that a TLS session takes (tests/adapters/tls/test_memory.py)."""
MOST_EXPOSED: Final = 1.3
"""The exposure of `systemd-analyze security`: 0 is fully sandboxed, 10 is not sandboxed."""


@pytest.fixture(scope="module")
def debian() -> DebianTree:
    """Debian 13 with its systemd."""
    return DebianTree("systemd")


@pytest.mark.root
@pytest.mark.parametrize("service", SERVICES)
def test_the_sandbox_is_as_tight_as_promised(debian: DebianTree, service: str) -> None:
    report = debian.run(f"systemd-analyze security --offline=true --no-pager /mnt/{service}", UNITS)
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", report)
    print(f"{service}: {exposure}")
    assert float(exposure) <= MOST_EXPOSED, report


@pytest.mark.root
def test_a_hole_in_the_sandbox_is_found(debian: DebianTree, tmp_path: Path) -> None:
    text = (UNITS / "pskkeyd.service").read_text(encoding="utf-8")
    for closed, opened in (("NoNewPrivileges=yes", "NoNewPrivileges=no"), ("ProtectSystem=strict", "ProtectSystem=no")):
        assert closed in text
        text = text.replace(closed, opened)
    (tmp_path / "open.service").write_text(text, encoding="utf-8")
    report = debian.run("systemd-analyze security --offline=true --no-pager /mnt/open.service", tmp_path)
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", report)
    assert float(exposure) > MOST_EXPOSED


VERIFY: Final = """
cp /mnt/* /etc/systemd/system
touch /usr/bin/pskkeyd && chmod 0755 /usr/bin/pskkeyd
systemd-analyze verify --man=no pskkeyd.service pskkeyd@two.service pskkeyd-keys@two.socket pskkeyd-control@two.socket
"""


@pytest.mark.root
def test_systemd_understands_every_line(debian: DebianTree) -> None:
    assert debian.run(VERIFY, UNITS) == ""


@pytest.mark.root
def test_systemd_reports_an_unknown_setting(debian: DebianTree, tmp_path: Path) -> None:
    units = tmp_path / "units"
    copytree(UNITS, units)
    service = units / "pskkeyd.service"
    service.write_text(service.read_text(encoding="utf-8").replace("UMask=", "Umask="), encoding="utf-8")
    assert "Umask" in debian.run(VERIFY, units)


def changes(one: str, other: str) -> list[str]:
    """Return the settings, without comments, that only one of two units has."""
    difference = unified_diff(settings(one), settings(other), lineterm="", n=0)
    return [line for line in difference if re.match(r"[+-][^+-]", line)]


def settings(unit: str) -> list[str]:
    """Return the lines of a unit without comments."""
    lines = (UNITS / unit).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_further_group_has_the_same_daemon() -> None:
    assert changes(*SERVICES) == [
        "-Description=Group-key daemon for multicast DTLS",
        "+Description=Group-key daemon for multicast DTLS, group %i",
        "-Requires=pskkeyd-keys.socket pskkeyd-control.socket",
        "-After=pskkeyd-keys.socket pskkeyd-control.socket",
        "-AssertPathExistsGlob=/{etc,{etc,run,usr/lib}/credstore{,.encrypted},run/credentials/@{system,encrypted}}"
        "/pskkey.psk",
        "+Requires=pskkeyd-keys@%i.socket pskkeyd-control@%i.socket",
        "+After=pskkeyd-keys@%i.socket pskkeyd-control@%i.socket",
        "-ExecStart=/usr/bin/pskkeyd",
        "-ExecReload=/usr/bin/pskkeyd --check-config",
        "+ExecStart=/usr/bin/pskkeyd --config /etc/pskkey/%i.toml",
        "+ExecReload=/usr/bin/pskkeyd --config /etc/pskkey/%i.toml --check-config",
        "-    systemctl --no-block stop pskkeyd-keys.socket pskkeyd-control.socket'",
        "+    systemctl --no-block stop pskkeyd-keys@%i.socket pskkeyd-control@%i.socket'",
        "-ImportCredential=pskkey.psk",
        "+ImportCredential=pskkey.%i.psk:pskkey.psk",
    ]


@pytest.mark.parametrize("name", ["keys", "control"])
def test_a_further_group_has_the_same_sockets(name: str) -> None:
    differing = {line[1:].partition("=")[0] for line in changes(f"pskkeyd-{name}.socket", f"pskkeyd-{name}@.socket")}
    assert differing == {"Description", "ConditionPathExistsGlob", "ListenStream", "Service"}
    text = (UNITS / f"pskkeyd-{name}@.socket").read_text(encoding="utf-8")
    assert f"\nListenStream=/run/pskkey/%i/{name}.sock\n" in text
    assert "\nService=pskkeyd@%i.service\n" in text


@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_stands_under_its_reason(service: str) -> None:
    section = (UNITS / service).read_text(encoding="utf-8").partition("[Service]\n")[2].partition("[Install]")[0]
    for paragraph in section.strip().split("\n\n"):
        assert paragraph.startswith(("#", "User=")), paragraph


@pytest.mark.parametrize("service", SERVICES)
def test_a_full_group_fits_below_the_memory_limits(service: str) -> None:
    text = (UNITS / service).read_text(encoding="utf-8")
    high, most = (int(re.findall(f"^{name}=([0-9]+)M$", text, re.MULTILINE)[0]) for name in ("MemoryHigh", "MemoryMax"))
    limits = Config().limits
    needed = IDLE_MIB + SESSION_MIB * (limits.connections + limits.handshakes)
    assert 1.25 * needed < high
    assert 1.15 * high < most < 1024


@pytest.mark.parametrize("name", ["pskkeyd.service", "pskkeyd-keys.socket", "pskkeyd-control.socket"])
def test_a_unit_looks_for_the_psk_in_all_its_places(name: str) -> None:
    (glob,) = re.findall(
        "^(?:Assert|Condition)PathExistsGlob=(.+)$", (UNITS / name).read_text(encoding="utf-8"), re.MULTILINE
    )
    expand = subprocess.run(["bash", "-c", f"echo {glob}"], capture_output=True, text=True, check=True)
    places = {Path(path) for path in expand.stdout.split()}
    assert places == {Path("/etc/pskkey.psk"), *(Path(store) / "pskkey.psk" for store in STORES | HANDED_TO_SYSTEMD)}


def test_the_installation_looks_for_a_credential_where_the_units_do() -> None:
    script = (ROOT / "packaging" / "debian" / "pskkey.postinst").read_text(encoding="utf-8")
    (words,) = re.findall(r"for place in (.*?);", script, re.DOTALL)
    assert set(words.replace("\\\n", " ").split()) == STORES | HANDED_TO_SYSTEMD


def test_check_config_looks_for_a_credential_where_the_units_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()

    def is_there(path: Path, _mode: int) -> bool:
        asked.add(str(path.parent))
        return False

    monkeypatch.setattr("os.access", is_there)
    assert stored_credential(DEFAULT_CONFIG) is None
    assert asked == STORES | HANDED_TO_SYSTEMD
