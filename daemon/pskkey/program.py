"""What all our programs have around their main function: what becomes of output that cannot be written, and of Ctrl-C.

Python itself would tell of each with a traceback or with exit code 120, and argparse would not tell at all.
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
"""The exit code of whoever could not write all of its output."""
INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells give it to a program that the signal ended."""
_INPUT, _OUTPUT, _ERRORS = range(3)


class Source(Protocol):
    """A file or socket."""

    def fileno(self) -> int: ...


class OutputFailed(Exception):
    """Standard output took no more. No OSError: whoever handles those means files of its own."""

    def __init__(self, error: OSError) -> None:
        closed = error.errno == errno.EBADF
        super().__init__(f"standard output {'is closed' if closed else f'cannot be written: {error.strerror}'}")
        self.reader_left = isinstance(error, BrokenPipeError)


def run(name: str, main: Callable[[], int]) -> int:
    """Run the main function of the program `name` and return its exit code.

    Output that cannot be written is one sentence and OUTPUT_FAILED. When it went to a pipe and the reader has seen
    enough, the process ends by SIGPIPE, as others do. Raises SystemExit when `main` does.
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
    """Have standard output take everything from now on, for whoever has other work to go on with."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, _OUTPUT)
    os.close(nowhere)
    sys.stdout.flush()


def wait_while_output_is_read(source: Source | None, timeout: float | None) -> bool:
    """Wait until there is something to read at `source`, at most `timeout` seconds; tell whether there is.

    Raises OutputFailed as soon as whoever reads our output leaves: nothing that is read now would be shown.
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
    """Open those that our caller closed, or the next file or connection would be taken for one of them.

    What is read from there, or written as output, fails as on a closed descriptor.
    """
    for number, flags in ((_INPUT, os.O_WRONLY), (_OUTPUT, os.O_RDONLY), (_ERRORS, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free


def _writer(number: int) -> io.BufferedWriter:
    return io.BufferedWriter(io.FileIO(number, "w", closefd=False))


class _Output(io.TextIOWrapper):
    """Standard output: raises OutputFailed, and nothing for a character that the terminal lacks."""

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
    """Standard error: what cannot be written there can be told nowhere, and changes no exit code."""

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
