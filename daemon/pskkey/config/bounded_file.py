"""Reading of the operator's files: a FIFO or a huge file in their place neither blocks nor fills the daemon."""

import errno
import os
import stat
from pathlib import Path


def read_bounded(path: Path, limit: int) -> tuple[bytes, os.stat_result]:
    """Return the content of a regular file, cut after `limit` + 1 bytes, and the status of what was read.

    Raises OSError, with an error text, when the file cannot be opened or read, or is no regular file.
    """
    # Without blocking: a FIFO in place of the file must not block the daemon.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        content = b""
        while len(content) <= limit and (part := os.read(descriptor, limit + 1 - len(content))):
            content += part
        return content, status
    finally:
        os.close(descriptor)
