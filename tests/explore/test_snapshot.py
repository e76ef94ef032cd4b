"""A copy shares nothing with its original, and the form is the same for the same state at any time."""

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


def test_copy_shares_nothing_with_its_original() -> None:
    device = _master()
    copy = thaw(freeze(device))
    assert digest(copy, copy.at) == digest(device, device.at)
    assert copy.facts() == device.facts()
    device.step(Input("rekey"), device.at)
    device.step(Input("time"), device.at + 30.0)
    device.step(Input("time"), device.at + 30.0)
    assert copy.facts().held_keys != device.facts().held_keys
    for entry in copy.node.key_state().entries:
        assert any(entry.key.pms.reveal())  # the original has wiped this key, the copy has not


def test_form_does_not_depend_on_absolute_time() -> None:
    early, late = _master(), _master(EPOCH + 12345.678)
    assert digest(early, early.at) == digest(late, late.at)


def test_form_differs_between_states() -> None:
    device = _master()
    forms = {digest(device, device.at), digest(device, device.at + 0.001)}
    for cause in (Input("accepted", 7, "10.0.0.2"), Input("rekey"), Input("die")):
        device.step(cause, device.at)
        forms.add(digest(device, device.at))
    assert len(forms) == 5
