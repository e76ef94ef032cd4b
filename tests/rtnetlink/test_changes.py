"""Notifications of a real kernel, also more of them than their buffer holds. Needs root."""

import logging
import socket
import time
from collections.abc import Iterator

import pytest

from pskkey.rtnetlink.changes import ADDRESSES, LINKS, NetworkChanges
from tests.system.private_network import bridge, configure, flood_of_addresses, own_network

pytestmark = pytest.mark.root

OVERFLOW = "the kernel announced more changes than were read"


@pytest.fixture(autouse=True)
def network(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Run each test in a network of its own."""
    caplog.set_level(logging.DEBUG)
    with own_network(*bridge("lan")):
        yield


async def is_woken(changes: NetworkChanges) -> bool:
    """Return whether a change ends the next wait."""
    begun = time.monotonic()
    await changes.wait(60)
    return time.monotonic() - begun < 30


async def test_flood_of_addresses_is_a_change_and_no_end_of_ip(caplog: pytest.LogCaptureFixture) -> None:
    ends: list[tuple[int | None, int]] = []
    with NetworkChanges(LINKS | ADDRESSES, lambda *end: ends.append(end)) as changes:
        configure(*flood_of_addresses("lan"))  # nobody reads meanwhile
        assert await is_woken(changes)
        assert changes.are_announced
    assert ends == []
    assert OVERFLOW in caplog.text


async def test_flood_of_addresses_does_not_hide_the_end_of_ip(caplog: pytest.LogCaptureFixture) -> None:
    ends: list[tuple[int | None, int]] = []
    with NetworkChanges(LINKS | ADDRESSES, lambda *end: ends.append(end)) as changes:
        configure(*flood_of_addresses("lan"), "link set lan mtu 1200", "link set lan mtu 1500")
        assert await is_woken(changes)
        assert set(ends) == {(socket.if_nametoindex("lan"), 1200)}
    assert OVERFLOW in caplog.text


async def test_flood_of_changed_interfaces_may_have_hidden_the_end_of_ip(caplog: pytest.LogCaptureFixture) -> None:
    ends: list[tuple[int | None, int]] = []
    with NetworkChanges(LINKS | ADDRESSES, lambda *end: ends.append(end)) as changes:
        configure(*(f"link set lan mtu {1400 + number % 2}" for number in range(1000)))
        assert await is_woken(changes)
        assert changes.are_announced
    assert set(ends) == {(None, 0)}
    assert OVERFLOW in caplog.text
