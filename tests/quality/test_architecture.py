"""Every file keeps the rules of `arrows` and `manners`, and each rule finds the faults that it is for."""

from collections.abc import Callable, Iterator

import pytest

from tests.quality.arrows import arrow_faults
from tests.quality.manners import (
    MAX_LINES,
    RULES,
    docstring_faults,
    length_faults,
    name_faults,
    private_faults,
    skip_faults,
    untrusted_faults,
)
from tests.quality.tracked import python_files

type Rule = Callable[[str, str], Iterator[str]]

PACKAGE = "daemon/pskkey/"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    files = python_files()
    assert {f"{PACKAGE}core/election.py", "tests/sim/run", "tests/conftest.py"} <= files.keys()
    assert [fault for path, source in files.items() for fault in rule(path, source)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "from pskkey.model import Key"),
        ("secret.py", "import pskkey.errors"),
        ("model/keys.py", "from pskkey.wire import frame"),
        ("model/keys.py", "import socket"),
        ("wire/frame.py", "from pskkey.core.events import Event"),
        ("wire/frame.py", "from pskkey import psk"),
        ("wire/frame.py", "import asyncio"),
        ("wire/frame.py", "from socket import inet_pton"),
        ("wire/fields.py", "from socket import create_connection"),
        ("wire/fields.py", "import socket"),
        ("core/node.py", "from pskkey.wire.frame import Frame"),
        ("core/node.py", "from ..wire import frame"),
        ("core/node.py", "from .. import wire"),
        ("core/node.py", "from pskkey import __version__"),
        *(("core/node.py", f"def f():\n    import {name}") for name in ("asyncio", "ssl", "socket", "time", "random")),
        *(("core/node.py", f"import {name}") for name in ("logging", "secrets", "os", "datetime", "pydantic")),
        ("core/node.py", "from os.path import join"),
        ("adapters/discovery/mdns.py", "from pskkey.core.node import Node"),
        ("adapters/discovery/mdns.py", "from pskkey.core import election"),
        ("adapters/discovery/mdns.py", "import pskkey.daemon.driver"),
        ("adapters/discovery/mdns.py", "from pskkey.daemon.main import main"),
        ("adapters/discovery/mdns.py", "from pskkey.mcast import GroupSession"),
        ("adapters/discovery/mdns.py", "from pskkey.tools.ctl import pskkeyctl"),
        ("adapters/discovery/mdns.py", "import threading"),
        ("mcast/session.py", "from pskkey.client.watcher import KeyWatcher"),
        ("mcast/session.py", "from pskkey.wire import packet"),
        ("mcast/join.py", "from pskkey.wire import packet"),
        ("rtnetlink/queries.py", "from pskkey.errors import ConfigError"),
        ("tools/demo/demo.py", "from pskkey.core.node import Node"),
        ("tools/demo/demo.py", "from pskkey.adapters.discovery.mdns import Discovery"),
        ("tools/demo/demo.py", "from pskkey.daemon.main import main"),
        ("daemon/driver.py", "from pskkey.daemon.daemon import Daemon"),
        ("keyserver/api.py", "from pskkey.daemon import daemon"),
        ("keyserver/request_client.py", "import threading"),
        ("daemon/journal.py", "from pskkey.adapters.host.systemd import Systemd"),
        ("daemon/reload.py", "from pskkey.core.node import Node"),
        ("daemon/logs.py", "from pskkey.errors import PskkeyError"),
        ("config/weak_keys.py", "from pskkey.errors import ConfigError"),
        ("config/mistakes.py", "from pskkey.model import Key"),
        ("client/socket_access.py", "from pskkey.wire import packet"),
        ("client/watcher.py", "from pskkey.keyserver.api import KeyClient"),
        ("tools/demo/demo.py", "if True:\n    from pskkey.daemon import driver"),
        ("daemon/driver.py", "from pskkey.adapters.discovery.mdns import Discovery"),
        ("daemon/driver.py", "from pskkey.core.keyring import Keyring"),
        ("daemon/status.py", "from pskkey.core import election"),
        ("daemon/daemon.py", "from pskkey.core.members import Members"),
        ("daemon/main.py", "from pskkey.tools.demo.demo import main"),
        ("__init__.py", "from pskkey.core.node import Node"),
        ("newcomer.py", "import os"),
    ],
)
def test_forbidden_imports_are_found(path: str, source: str) -> None:
    assert list(arrow_faults(PACKAGE + path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/keys.py", "from pskkey.secret import Secret"),
        ("wire/fields.py", "from socket import AF_INET, inet_pton"),
        ("wire/packet.py", "from pskkey.wire import keymsg"),
        ("wire/packet.py", "from . import keymsg"),
        ("core/node.py", "from collections.abc import Callable"),
        ("core/node.py", "from .events import Event"),
        ("core/__init__.py", "from .events import Event"),
        ("adapters/discovery/mdns.py", "from pskkey.core.events import Event\nfrom pskkey.core import actions"),
        ("mcast/join.py", "from pskkey.client.watcher import AsyncKeyWatcher"),
        ("mcast/endpoint.py", "from pskkey.rtnetlink.changes import NetworkChanges"),
        ("tools/ctl/pskkeyctl.py", "from pskkey import __version__"),
    ],
)
def test_allowed_imports_are_accepted(path: str, source: str) -> None:
    assert not list(arrow_faults(PACKAGE + path, source))


@pytest.mark.parametrize(
    ("rule", "path", "bad", "good"),
    [
        (
            arrow_faults,
            "tests/x.py",
            "from pskkey.core.keyring import Keyring",
            "from pskkey.core.view import NodeView",
        ),
        (length_faults, "tests/x.py", "pass\n" * (MAX_LINES + 1), "pass\n" * MAX_LINES),
        (docstring_faults, "tests/x.py", "import os", '"""What it is for."""\nimport os'),
        (skip_faults, "tests/x.py", "pytest.skip('not now')", "fmt.skip('not now')"),
        (
            skip_faults,
            "tests/x.py",
            "def f():\n    pytest.skip('not now')",
            "def f():\n    if not os.environ.get('CI'):\n        pytest.skip('not now')",
        ),
        (skip_faults, "tests/x.py", "pytest.mark.skipif(True, reason='')", "pytest.mark.root"),
        (skip_faults, "tests/x.py", "from pytest import importorskip", "from pytest import raises"),
        (skip_faults, "tests/x.py", "@pytest.mark.xfail\ndef f(): pass", "@pytest.mark.slow\ndef f(): pass"),
        (private_faults, "tests/x.py", "node._election", "self._election"),
        (private_faults, "tests/x.py", "node._term = 7", "self._term = 7\nother._term"),
        (private_faults, "tests/x.py", "node._step()", "def _step(self): pass\nnode._step()"),
        (untrusted_faults, PACKAGE + "wire/x.py", "def decode_x(b): pass", "def decode_x_untrusted(b): pass"),
        (
            untrusted_faults,
            PACKAGE + "wire/x.py",
            "def read_untrusted(b):\n    raise ValueError('no')",
            "def read_untrusted(b):\n    raise BadPacket('no') from None",
        ),
    ],
)
def test_bad_manners_are_found(rule: Rule, path: str, bad: str, good: str) -> None:
    assert list(rule(path, bad))
    assert not list(rule(path, good))


@pytest.mark.parametrize(
    ("path", "is_fine"), [("daemon/pskkey/utils.py", False), ("daemon/pskkey/config/psk.py", True)]
)
def test_names_without_meaning_are_found(path: str, is_fine: bool) -> None:
    assert (not list(name_faults(path, ""))) is is_fine
