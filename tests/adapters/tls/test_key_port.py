"""The key port while this process cannot look for the interfaces of its addresses. Needs root."""

import pytest

from pskkey.adapters.tls.listening_sockets import AddressMissing
from tests.no_descriptors import no_descriptor_left

pytestmark = pytest.mark.root

LONG = "a-long-alternative-name"


def test_missing_address_is_a_sentence_also_while_no_descriptor_is_left() -> None:
    with no_descriptor_left():
        error = AddressMissing(f"fe80::77%{LONG}")
    expected = f"fe80::77%{LONG} is not an address of this machine now, so the key server cannot listen on it"
    assert str(error) == expected
