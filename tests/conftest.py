"""Marks each test by what may run beside it, and skips tests that cannot run here."""

import os
import shutil
import subprocess
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Final

import pytest

from tests.second_runs import SecondRuns

ROOT: Final = Path(__file__).parent

MARKS: Final = {
    "fast": "needs no waiting and no other program",
    "waits": "waits for time or for programs; several run beside each other, each in a network of its own",
    "machine": "boots hosts, or builds or installs packages",
    "measures": "measures time, memory or losses",
}
"""The four kinds of tests: each test has one of these marks."""

MEASURES: Final = (
    "adapters/tls/test_storm.py",
    "bench",
    "hostile",
    "lab",
    "system/test_busy_kernel.py",
    "system/test_floods.py",
    "system/test_odd_networks.py",
    "system/test_odd_settings.py",
)
"""Tests that measure time, memory or lost datagrams. They are marked `measures`, and little runs beside them."""

ONE_MACHINE: Final = ("hosts", "interop/test_tls_legacy_wolfssl.py", "packaging")
"""Tests that boot hosts, or build or install packages. They are marked `machine`, and run one after the other."""

WAITS: Final = (
    "adapters/local/test_control_shares.py",
    "adapters/local/test_key_socket_places.py",
    "explore",
    "interop",
    "keyserver",
    "mcast/test_mcastpeer.py",
    "quality/test_coverage.py",
    "sim/test_rotation.py",
    "sim/test_simulator.py",
    "system",
    "tools/ctl/test_follow_verbs.py",
    "tools/ctl/test_psk_verbs.py",
    "tools/test_program_output.py",
)
"""Tests that wait, start programs, or simulate for long. Like all that are marked `slow` or `root`, they are marked
`waits`. A test without one of the three marks is marked `fast`."""


def _has_wolfssl() -> bool:
    return find_library("wolfssl") is not None


def _can_compile_with_wolfssl() -> bool:
    return shutil.which("gcc") is not None and Path("/usr/include/wolfssl/ssl.h").exists()


def _can_build_wolfssl() -> bool:
    tools = ("dpkg-source", "autoreconf", "automake", "libtoolize", "make")
    return _can_compile_with_wolfssl() and all(shutil.which(tool) for tool in tools)


def _can_boot_hosts() -> bool:
    return all(shutil.which(tool) for tool in ("debootstrap", "systemd-nspawn"))


def _has_avahi() -> bool:
    return all(shutil.which(program) for program in ("avahi-daemon", "avahi-browse", "dbus-daemon"))


NEEDS: Final[dict[str, tuple[str, Callable[[], bool]]]] = {
    "bench": ("libwolfssl-dev", _has_wolfssl),
    "bench/test_hosts.py": ("debootstrap systemd-container", _can_boot_hosts),
    "hosts": ("debootstrap systemd-container", _can_boot_hosts),
    "interop": ("libwolfssl-dev", _has_wolfssl),
    "interop/test_session_manager.py": ("gcc libc6-dev libwolfssl-dev", _can_compile_with_wolfssl),
    "interop/test_tls_wolfssl.py": ("gcc libc6-dev libwolfssl-dev", _can_compile_with_wolfssl),
    "interop/test_tls_legacy_wolfssl.py": ("dpkg-dev autoconf automake libtool make gcc", _can_build_wolfssl),
    "interop/test_tshark.py": ("tshark", lambda: shutil.which("tshark") is not None),
    "system/test_avahi.py": ("avahi-daemon avahi-utils dbus", _has_avahi),
    "keyserver/test_wolfssl.py": ("libwolfssl-dev", _has_wolfssl),
    "packaging/test_debian_package.py": ("debootstrap", lambda: shutil.which("debootstrap") is not None),
    "packaging/test_units.py": ("debootstrap", lambda: shutil.which("debootstrap") is not None),
    "quality/test_completions.py": ("zsh", lambda: shutil.which("zsh") is not None),
    "quality/test_manuals.py": ("mandoc", lambda: shutil.which("mandoc") is not None),
    "adapters/tls": ("openssl", lambda: shutil.which("openssl") is not None),
    "keyserver": ("openssl", lambda: shutil.which("openssl") is not None),
}
"""Tests, the Debian package that they need, and whether it is there."""


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers that are put on here, and give each of several workers a network of its own."""
    config.pluginmanager.register(SecondRuns())
    for mark, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{mark}: {meaning} (set by the test's place and marks)")
    if hasattr(config, "workerinput") and config.getoption("markexpr") == "waits" and os.geteuid() == 0:
        os.unshare(os.CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _mark_of(item: pytest.Item) -> str:
    path = item.path.relative_to(ROOT)
    for mark, places in {"measures": MEASURES, "machine": ONE_MACHINE, "waits": WAITS}.items():
        if any(map(path.is_relative_to, places)):
            return mark
    return "waits" if any(map(item.get_closest_marker, ("slow", "root"))) else "fast"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test, and skip what cannot run here; in CI it runs all the same, and fails."""
    must_run = bool(os.environ.get("CI"))
    is_root = os.geteuid() == 0
    absent = {place: package for place, (package, is_there) in NEEDS.items() if not is_there()}
    for item in items:
        path = item.path.relative_to(ROOT)
        item.add_marker(_mark_of(item))
        if must_run:
            continue
        if item.get_closest_marker("root") and not is_root:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        for place, package in absent.items():
            if path.is_relative_to(place):
                item.add_marker(pytest.mark.skip(reason=f"needs the Debian package {package}"))
