"""A second run for a test that has failed while this machine itself stood still.

Daemons of a test declare a member lost after a second or two. When all processes stand still for longer, as those of a
virtual machine do while its host is busy, such a test fails without a fault. Only the standstill that was measured
during the test is a reason: a test that failed without one has failed. JUnit files list each second run.
"""

from functools import cached_property
from typing import Final

import pytest
from _pytest.runner import runtestprotocol

from tests.lab.standstill import Standstill

PROPERTY: Final = "ran again"
"""The property of a test in a JUnit file that has the reason for its second run."""

TOLERATED_MS: Final = 500.0
"""A standstill that each test must bear: a third of the shortest time after which a daemon of a test counts as lost."""


class SecondRuns:
    """A pytest plugin. Tests that are marked `fast` do not wait, so it leaves them alone."""

    @cached_property
    def _standstill(self) -> Standstill:
        return Standstill()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test, and once more if it failed during a standstill."""
        if item.get_closest_marker("fast"):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self._standstill.longest_ms()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        stalled_ms = self._standstill.longest_ms()
        failed = [report for report in reports if report.failed]
        if failed and stalled_ms > TOLERATED_MS:
            item.user_properties.append((PROPERTY, f"stood still for {stalled_ms:.0f} ms: {_reason(failed[0])}"))
            # A fixture of several tests may have failed too, and pytest would not try it again.
            item.session._setupstate.teardown_exact(None)
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_unconfigure(self) -> None:
        """End the process that measures."""
        if "_standstill" in vars(self):
            self._standstill.destroy()


def _reason(report: pytest.TestReport) -> str:
    lines = report.longreprtext.splitlines()
    return next((line.removeprefix("E").strip() for line in lines if line.startswith("E ")), "no reason")
