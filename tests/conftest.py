"""Which tests may run here, and which must have the machine to themselves."""

import os
import shutil
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent

ALONE: Final = ("bench", "hostile", "hosts", "interop", "lab", "system", "adapters/tls/test_storm.py")
"""Tests that measure time or memory, or load the machine; so do all that are marked `slow` or `root`."""

VIRTUAL_TIME: Final = "sim"
"""Tests that do not mind who else runs, however slow they are."""


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
    """Name the marker that is put on here."""
    config.addinivalue_line("markers", "alone: must not run beside other tests (set by the test's place and marks)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs alone, and skip what cannot run here; in CI it runs all the same, and fails."""
    must_run = bool(os.environ.get("CI"))
    is_root = os.geteuid() == 0
    absent = {place: package for place, (package, is_there) in NEEDS.items() if not is_there()}
    for item in items:
        path = item.path.relative_to(ROOT)
        is_heavy = any(map(path.is_relative_to, ALONE)) or any(map(item.get_closest_marker, ("slow", "root")))
        if is_heavy and not path.is_relative_to(VIRTUAL_TIME):
            item.add_marker("alone")
        if must_run:
            continue
        if item.get_closest_marker("root") and not is_root:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        for place, package in absent.items():
            if path.is_relative_to(place):
                item.add_marker(pytest.mark.skip(reason=f"needs the Debian package {package}"))
