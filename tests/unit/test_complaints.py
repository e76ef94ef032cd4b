"""Complaints in the log stay few, whoever makes us complain."""

import logging

import pytest

from pskkey.adapters.complaints import MAX_PEERS, Complaints

LOG = logging.getLogger("test.complaints")


def test_one_line_about_each_peer(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(LOG)
    with caplog.at_level(logging.WARNING, LOG.name):
        for _ in range(100):
            complaints.warn("user 1000", "refused")
            complaints.warn("user 1001", "refused")
    assert [line.split(" (")[0] for line in caplog.messages] == ["user 1000: refused", "user 1001: refused"]


def test_many_peers_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(LOG)
    with caplog.at_level(logging.WARNING, LOG.name):
        for number in range(10 * MAX_PEERS):
            complaints.warn(f"user {number}", "refused")
    assert len(caplog.messages) == MAX_PEERS
