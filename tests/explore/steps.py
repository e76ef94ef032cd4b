"""The steps of the devices: in the search by a table, elsewhere by the device itself.

A step depends only on the state of the device, the time since its last step, and the input. The search meets the same
step again and again, with other states of the other two devices. So each step is made once and kept.
"""

import gc
from typing import Final

from tests.explore.device import Device, Facts, Input, Output
from tests.explore.snapshot import MICROSECONDS, digest, freeze, thaw
from tests.explore.state import Local

COLLECT_EVERY: Final = 500
"""Steps between two garbage collections, which remove the devices that were made for the steps.

Each device is a reference cycle. The collection is explicit: the automatic one would visit millions of states again and
again.
"""


class KeptSteps:
    """A table of all known states of devices, by number, and of all known steps between them."""

    def __init__(self) -> None:
        self._frozen: list[bytes] = []
        self._facts: list[Facts] = []
        self._numbers: dict[bytes, int] = {}
        self._steps: dict[tuple[Local, int, Input], tuple[int, tuple[Output, ...]]] = {}

    @property
    def states(self) -> int:
        """The number of known states of devices."""
        return len(self._frozen)

    def keep(self, device: Device) -> int:
        """Return the number of the state of a device."""
        form = digest(device, device.at)
        number = self._numbers.get(form)
        if number is None:
            number = self._numbers[form] = len(self._frozen)
            self._frozen.append(freeze(device))
            self._facts.append(device.facts())
        return number

    def device(self, local: Local) -> Device:
        """Return a new device in that state."""
        assert isinstance(local, int)
        device = thaw(self._frozen[local])
        assert isinstance(device, Device)
        return device

    def step(self, local: Local, age: int, cause: Input) -> tuple[Local, tuple[Output, ...]]:
        """Find a step in the table, or make it."""
        about = (local, age, cause)
        kept = self._steps.get(about)
        if kept is None:
            if len(self._steps) % COLLECT_EVERY == 0:
                gc.collect(0)
            device = self.device(local)
            outputs = device.step(cause, _time(device, age))
            kept = self._steps[about] = (self.keep(device), tuple(outputs))
        return kept

    def facts(self, local: Local) -> Facts:
        """Return the visible state of a device."""
        assert isinstance(local, int)
        return self._facts[local]


class LiveSteps:
    """Changes the devices themselves. So it follows one way from state to state, without a way back."""

    def __init__(self) -> None:
        self._facts: dict[Device, Facts] = {}

    def step(self, local: Local, age: int, cause: Input) -> tuple[Local, tuple[Output, ...]]:
        """Make the step on the device itself."""
        assert isinstance(local, Device)
        self._facts.pop(local, None)
        return local, tuple(local.step(cause, _time(local, age)))

    def facts(self, local: Local) -> Facts:
        """Return the visible state of a device."""
        assert isinstance(local, Device)
        if local not in self._facts:
            self._facts[local] = local.facts()
        return self._facts[local]


def _time(device: Device, age: int) -> float:
    """Return the time `age` microseconds after the last step. If that is the deadline, the result is exactly that."""
    due = None if device.node is None else device.node.next_deadline()
    if due is not None and round((due - device.at) * MICROSECONDS) == age:
        return max(due, device.at)
    return device.at + age / MICROSECONDS
