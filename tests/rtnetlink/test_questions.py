"""Questions to a real kernel are answered in bounds, and by the kernel alone. Needs root."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pskkey.rtnetlink import messages
from pskkey.rtnetlink.questions import Refusal, ask
from tests.system.private_network import bridge, own_network

pytestmark = pytest.mark.root

ALL_LINKS = bytes(messages.LINK.size)


def link(index: int) -> bytes:
    return messages.LINK.pack(0, 0, index, 0, 0)


@contextmanager
def forger(answer: bytes) -> Iterator[None]:
    """Send this answer all the time to the port that the kernel gives to the first socket of this process."""
    is_over = threading.Event()

    def send(forging: socket.socket) -> None:
        while not is_over.is_set():
            with suppress(OSError):  # nobody asks now, or the buffer is full
                forging.sendto(answer, (os.getpid(), 0))

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as forging:
        forging.bind((1 << 30, 0))
        forging.setblocking(False)
        thread = threading.Thread(target=send, args=[forging])
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def test_list_ends_at_the_bound() -> None:
    with own_network(*bridge("lan"), *bridge("office")):
        assert [len(ask(messages.GET_LINK, ALL_LINKS, most)) for most in (1, 2, 3, 9)] == [1, 2, 3, 3]


def test_one_question_has_one_answer() -> None:
    with own_network(*bridge("lan")):
        (answer,) = ask(messages.GET_LINK, link(2))
        (_, _, index, *_), attributes = messages.read_payload(messages.LINK, answer)
        assert (index, attributes[3]) == (2, [b"lan\0"])


def test_error_of_the_kernel_is_a_refusal() -> None:
    with own_network(), pytest.raises(Refusal) as raised:
        ask(messages.GET_LINK, link(9))
    assert (raised.value.errno, raised.value.strerror) == (errno.ENODEV, "No such device")


def test_answer_of_another_program_is_ignored() -> None:
    forged = messages.HEADER.pack(messages.HEADER.size + 4, messages.ERROR, 0, 0, 0) + b"\xff\xff\xff\xff"
    with own_network(), forger(forged):
        assert [len(ask(messages.GET_LINK, ALL_LINKS, 9)) for _ in range(300)] == [1] * 300
