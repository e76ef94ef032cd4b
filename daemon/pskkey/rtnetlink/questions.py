"""Asks the kernel for one thing or for a list of them (rtnetlink(7)). It answers at once."""

import errno
import os
import socket
from typing import Final

from pskkey.rtnetlink import messages

_TIMEOUT: Final = 2.0
"""Seconds for each datagram: the kernel can be busy while another program changes many interfaces."""
_ATTEMPTS: Final = 3
"""A list is read so often if it changes meanwhile."""
_REQUEST, _DUMP, _INTERRUPTED = 0x1, 0x300, 0x10
"""Flags of <linux/netlink.h>."""
_NOT_ALLOWED: Final = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EPERM, errno.EACCES})


class NoNetlink(OSError):
    """This process may not use netlink, for example because of RestrictAddressFamilies= of its unit."""


class Refusal(OSError):
    """The kernel answers with an error, for example because there is no route."""


def ask(question: int, payload: bytes, most: int | None = None) -> list[bytes]:
    """Return the payloads of the answer: one, or the first `most` of a list. Raises Refusal, NoNetlink, OSError."""
    flags = _REQUEST if most is None else _REQUEST | _DUMP
    request = messages.HEADER.pack(messages.HEADER.size + len(payload), question, flags, 0, 0) + payload
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError as error:
        raise (NoNetlink(*error.args) if error.errno in _NOT_ALLOWED else error) from None
    with kernel:
        kernel.settimeout(_TIMEOUT)
        for _ in range(_ATTEMPTS):
            kernel.sendto(request, (0, 0))
            answer, is_whole = _read_answer(kernel, question, most)
            if is_whole:
                break
    return answer


def _read_answer(kernel: socket.socket, question: int, most: int | None) -> tuple[list[bytes], bool]:
    """Return the payloads, and whether the list did not change meanwhile."""
    answer: list[bytes] = []
    is_whole = True
    while True:
        data, _, marks, (sender, _) = kernel.recvmsg(messages.READ_SIZE)
        if sender != 0:
            continue  # another program
        if marks & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, "an answer of the kernel is too long")
        for kind, flags, payload in messages.read_messages(data):
            is_whole = is_whole and not flags & _INTERRUPTED
            if kind == messages.ERROR:
                number = -messages.read_number(payload)
                raise Refusal(number, os.strerror(number))
            if kind == messages.DONE:
                return answer, is_whole
            # RTM_NEWLINK answers RTM_GETLINK, and so on: always two less.
            if kind == question - 2 and len(answer) < (most or 1):
                answer.append(payload)
        if most is None:
            return answer, is_whole
