"""The frame around the main function of all our programs. It handles output that cannot be written, and Ctrl-C.

Python itself answers both with a traceback or with exit code 120, and argparse does not report them at all.
"""

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Final, Protocol

OUTPUT_FAILED: Final = 1
"""The exit code of a program that could not write all of its output."""
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: that of a shell for a program that the signal ended."""
_INPUT, _OUTPUT, _ERRORS = range(3)


class Source(Protocol):
    """A file or socket."""

    def fileno(self) -> int: ...


class OutputFailed(Exception):
    """Standard output takes no more. This is no OSError, because programs handle OSError for files of their own."""

    def __init__(self, error: OSError) -> None:
        closed = error.errno == errno.EBADF
        super().__init__(f"standard output {'is closed' if closed else f'cannot be written: {error.strerror}'}")
        self.reader_left = isinstance(error, BrokenPipeError)


def run(name: str, main: Callable[[], int]) -> int:
    """Run the main function of the program `name` and return its exit code.

    When output cannot be written, print one sentence and return OUTPUT_FAILED. When the reader of a pipe has left, end
    the process by SIGPIPE, as other programs do. Raises SystemExit when `main` does.
    """
    _occupy_standard_descriptors()
    sys.stdout, sys.stderr = _Output.of(sys.stdout), _Errors.of(sys.stderr)
    try:
        try:
            return main()
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            sys.stdout.flush()
    except OutputFailed as failed:
        discard_output()
        if failed.reader_left:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
        print(f"{name}: {failed}", file=sys.stderr)
        return OUTPUT_FAILED


def discard_output() -> None:
    """Discard all standard output from now on, in a program that has other work to do."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, _OUTPUT)
    os.close(nowhere)
    sys.stdout.flush()


def wait_while_output_is_read(source: Source | None, timeout: float | None) -> bool:
    """Wait until there is something to read at `source`, at most `timeout` seconds; return whether there is.

    Raises OutputFailed as soon as the reader of our output leaves, because nothing would be shown any more.
    """
    poll = select.poll()
    if source is not None:
        poll.register(source, select.POLLIN)
    poll.register(_OUTPUT, 0)  # errors alone
    ready = dict(poll.poll(None if timeout is None else 1000 * timeout))
    if _OUTPUT in ready:
        raise OutputFailed(BrokenPipeError())
    return bool(ready)


def _occupy_standard_descriptors() -> None:
    """Open the standard descriptors that our caller closed. The next file or connection must not get the number of one.

    Reading and writing there fails as on a closed descriptor.
    """
    for number, flags in ((_INPUT, os.O_WRONLY), (_OUTPUT, os.O_RDONLY), (_ERRORS, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free


def _writer(number: int) -> io.BufferedWriter:
    return io.BufferedWriter(io.FileIO(number, "w", closefd=False))


class _Output(io.TextIOWrapper):
    """Standard output. It raises OutputFailed, and replaces a character that the terminal does not have."""

    @classmethod
    def of(cls, stream: object) -> "_Output":
        return cls(_writer(_OUTPUT), getattr(stream, "encoding", None), "replace", line_buffering=os.isatty(_OUTPUT))

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputFailed(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputFailed(error) from None


class _Errors(io.TextIOWrapper):
    """Standard error. A failure to write there is reported nowhere, and changes no exit code."""

    @classmethod
    def of(cls, stream: object) -> "_Errors":
        return cls(_writer(_ERRORS), getattr(stream, "encoding", None), "backslashreplace", line_buffering=True)

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            return
