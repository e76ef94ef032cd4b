"""A daemon's log shows its state, with the time of the last change."""

import time
from datetime import datetime
from pathlib import Path

from tests.lab.log_view import LogView

JOINED = """\
2026-11-29 01:33:30,687 INFO    there is no group pskkey on this machine: only root and the daemon's user get keys
2026-11-29 01:33:30,689 INFO    Listening on 0.0.0.0, port 11111
2026-11-29 01:33:30,690 INFO    Listening on ::, port 11111
2026-11-29 01:33:31,709 INFO    listening -> joining, term 0
2026-11-29 01:33:31,742 INFO    joining -> client, term 1
2026-11-29 01:33:31,742 INFO    joined master n4 in term 1
2026-11-29 01:33:31,744 INFO    activated key epoch 1, 668ba574372d8f4d
2026-11-29 01:33:31,755 WARNING Connection from 10.83.0.1: it ended the connection (PSK identity 'group')
"""
LOST = """\
2026-11-29 01:33:31,807 WARNING lost master n4: the connection to 10.83.0.4, port 11111 ended: it closed the connection
2026-11-29 01:33:31,808 INFO    client -> joining, term 1
"""


def of_wall_clock(monotonic: float) -> str:
    """Return a time of `time.monotonic` as the wall clock shows it, to the second."""
    return datetime.fromtimestamp(monotonic - time.monotonic() + time.time() + 0.0005).strftime("%H:%M:%S")  # noqa: DTZ006


def test_log_shows_role_master_and_key(tmp_path: Path) -> None:
    log = tmp_path / "log"
    view = LogView(log)
    log.write_text(JOINED)
    view.read()
    assert (view.role, view.master, view.epoch, view.fingerprint) == ("client", "n4", 1, "668ba574372d8f4d")
    assert view.loaded_at is not None
    assert of_wall_clock(view.loaded_at) == "01:33:30"
    assert 1.0 < view.changed_at - view.loaded_at < 1.1


def test_node_without_a_master_follows_nobody(tmp_path: Path) -> None:
    log = tmp_path / "log"
    view = LogView(log)
    log.write_text(JOINED)
    view.read()
    log.write_text(JOINED + LOST)
    view.read()
    assert (view.role, view.master, view.epoch) == ("joining", None, 1)


def test_half_a_line_is_read_when_it_is_complete(tmp_path: Path) -> None:
    log = tmp_path / "log"
    view = LogView(log)
    log.write_text(JOINED + LOST[:-20])
    view.read()
    assert view.role == "client"
    log.write_text(JOINED + LOST)
    view.read()
    assert view.role == "joining"


def test_state_of_a_former_process_is_forgotten(tmp_path: Path) -> None:
    log = tmp_path / "log"
    view = LogView(log)
    log.write_text(JOINED)
    view.read()
    view.forget()
    view.read()
    assert (view.role, view.master, view.epoch, view.fingerprint, view.loaded_at) == (None, None, 0, None, None)
