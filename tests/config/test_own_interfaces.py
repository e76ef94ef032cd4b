"""The configured interfaces that this machine does not have."""

from pskkey.config.own_interfaces import describe_missing, missing_interfaces
from tests.no_descriptors import no_descriptor_left

NAMES = ("lo", "nowhere0", "127.0.0.1", "192.0.2.1")


def test_names_and_addresses_that_are_missing_are_found() -> None:
    assert missing_interfaces(NAMES) == ("nowhere0", "192.0.2.1")
    assert "this machine has no nowhere0 now; it has " in describe_missing(["nowhere0"])


def test_nothing_counts_as_missing_while_no_descriptor_is_left_to_look_with() -> None:
    with no_descriptor_left():
        assert missing_interfaces(NAMES) == ()
        assert describe_missing(["nowhere0"]).endswith("it has none that can be listed")
