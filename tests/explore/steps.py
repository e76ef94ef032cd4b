"""How a step of a device is made: in the search by a table, elsewhere by the device itself.

A device is a function of its state, the time since, and what happens. In the search the same step is met again and
again, for the other two devices may be in any state meanwhile: so each is made once and kept.
"""

import gc
from typing import Final

from tests.explore.device import Device, Facts, Input, Output
from tests.explore.snapshot import MICROSECONDS, digest, freeze, thaw
from tests.explore.state import Local

COLLECT_EVERY: Final = 500
"""Steps after which the devices that were made for them are thrown away; each is a circle, which only the collector
finds. It is called by hand, for by itself it would look through millions of states again and again."""


class KeptSteps:
    """A table of all states of devices that were met, by number, and of all steps between them."""

    def __init__(self) -> None:
        self._frozen: list[bytes] = []
        self._facts: list[Facts] = []
        self._numbers: dict[bytes, int] = {}
        self._steps: dict[tuple[Local, int, Input], tuple[int, tuple[Output, ...]]] = {}

    @property
    def states(self) -> int:
        """How many states of devices were met."""
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
        """Return a device of its own in that state."""
        assert isinstance(local, int)
        device = thaw(self._frozen[local])
        assert isinstance(device, Device)
        return device

    def step(self, local: Local, age: int, happens: Input) -> tuple[Local, tuple[Output, ...]]:
        """Make a step, or find it in the table."""
        about = (local, age, happens)
        kept = self._steps.get(about)
        if kept is None:
            if len(self._steps) % COLLECT_EVERY == 0:
                gc.collect(0)
            device = self.device(local)
            outputs = device.step(happens, _time(device, age))
            kept = self._steps[about] = (self.keep(device), tuple(outputs))
        return kept

    def facts(self, local: Local) -> Facts:
        """Return what can be seen of a device."""
        assert isinstance(local, int)
        return self._facts[local]


class LiveSteps:
    """Lets the devices themselves change: for one way from state to state, and no way back."""

    def __init__(self) -> None:
        self._facts: dict[Device, Facts] = {}

    def step(self, local: Local, age: int, happens: Input) -> tuple[Local, tuple[Output, ...]]:
        """Let the device make the step."""
        assert isinstance(local, Device)
        self._facts.pop(local, None)
        return local, tuple(local.step(happens, _time(local, age)))

    def facts(self, local: Local) -> Facts:
        """Return what can be seen of a device."""
        assert isinstance(local, Device)
        if local not in self._facts:
            self._facts[local] = local.facts()
        return self._facts[local]


def _time(device: Device, age: int) -> float:
    """Return the time `age` microseconds after the last step: exactly that at which it is due, if it is that."""
    due = None if device.node is None else device.node.next_deadline()
    if due is not None and round((due - device.at) * MICROSECONDS) == age:
        return max(due, device.at)
    return device.at + age / MICROSECONDS
