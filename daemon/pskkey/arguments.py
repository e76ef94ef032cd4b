"""The types of arguments on our command lines, for argparse. The error of each names the allowed values."""

import argparse
from collections.abc import Callable


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Return the type of a whole number in these bounds."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} to {highest}")
        return number

    return parse


def number(lowest: float, highest: float) -> Callable[[str], float]:
    """Return the type of a number in these bounds."""

    return _float(lambda value: lowest <= value <= highest, f"a number from {lowest:g} to {highest:g}")


def seconds(highest: float) -> Callable[[str], float]:
    """Return the type of a time above 0 and up to `highest` seconds."""

    return _float(lambda value: 0 < value <= highest, f"a number of seconds above 0 and up to {highest:g}")


def _float(is_allowed: Callable[[float], bool], allowed: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not is_allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return value

    return parse


def psk_identity(text: str) -> str:
    """Return the identity of a pre-shared key, if a PSK file can hold it. No error repeats it: it may be a key."""
    # Imported here, so that pskkeyctl does not load it to show a status.
    from pskkey.config.psk import check_identity
    from pskkey.errors import ConfigError

    try:
        check_identity(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
