"""The cost of an event is read from the kernel, and the masters at one time from the logs."""

import os
import time

import pytest

from tests.lab.costs import interface_counters, processor_seconds, resident_bytes
from tests.lab.roles import most_masters

TABLE = """\
Inter-|   Receive                            |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs ...
    lo:  111111     222    0    0    0     0    0    0   333333     444    0    0    0    0    0    0
  eth0:  182312    1203    0    0    0     0    0    0    98231     801    0    0    0    0    0    0
"""


def test_counters_are_those_of_the_interface_of_the_host() -> None:
    assert interface_counters(TABLE) == (1203, 98231)
    with pytest.raises(ValueError, match="eth0"):
        interface_counters(TABLE.replace("eth0", "eth1"))


def test_processor_time_is_counted_finer_than_clock_ticks() -> None:
    before, clock = processor_seconds(os.getpid()), time.process_time()
    while time.process_time() < clock + 0.05:
        pass
    used = processor_seconds(os.getpid()) - before
    assert 0.04 < used < 0.5


def test_resident_memory_is_in_bytes() -> None:
    assert 5e6 < resident_bytes(os.getpid()) < 5e9


def test_masters_at_one_time_are_counted_within_the_span() -> None:
    masters = [[(0.0, 5.0), (8.0, 9.0)], [(4.0, 8.5)], [(5.0, 6.0)]]
    assert most_masters(masters, 0.0, 10.0) == 2
    assert most_masters(masters, 0.0, 4.0) == 1
    assert most_masters(masters, 9.0, 10.0) == 0
    assert most_masters([], 0.0, 10.0) == 0
