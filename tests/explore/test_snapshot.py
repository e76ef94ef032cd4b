"""A copy is a device of its own; a form is the same for the same state, whenever it comes about."""

from pskkey.model import Role
from tests.explore.device import Device, Input
from tests.explore.snapshot import EPOCH, digest, freeze, thaw


def _master(began: float = EPOCH) -> Device:
    device = Device(1)
    device.step(Input("start"), began)
    for after in (1.0, 1.5, 2.0, 2.5):
        device.step(Input("time"), began + after)
    assert device.facts().role is Role.MASTER
    return device


def test_a_copy_is_a_device_of_its_own() -> None:
    device = _master()
    copy = thaw(freeze(device))
    assert digest(copy, copy.at) == digest(device, device.at)
    assert copy.facts() == device.facts()
    device.step(Input("rekey"), device.at)
    device.step(Input("time"), device.at + 30.0)
    device.step(Input("time"), device.at + 30.0)
    assert copy.facts().ring != device.facts().ring
    for entry in copy.node.key_state().entries:
        assert any(entry.key.pms.reveal())  # what the other has wiped is not wiped here


def test_a_form_does_not_depend_on_the_time_of_day() -> None:
    early, late = _master(), _master(EPOCH + 12345.678)
    assert digest(early, early.at) == digest(late, late.at)


def test_a_form_has_what_is_different() -> None:
    device = _master()
    forms = {digest(device, device.at), digest(device, device.at + 0.001)}
    for happens in (Input("accepted", 7, "10.0.0.2"), Input("rekey"), Input("die")):
        device.step(happens, device.at)
        forms.add(digest(device, device.at))
    assert len(forms) == 5
