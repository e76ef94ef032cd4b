"""The command lines of our programs, as their `--help` lists them."""

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MODULES: Final = {
    "mcastpeer": "pskkey.tools.mcastpeer.mcastpeer",
    "pskkey-client": "pskkey.keyserver.pskkey_client",
    "pskkey-server": "pskkey.keyserver.pskkey_server",
    "pskkeyctl": "pskkey.tools.ctl.pskkeyctl",
    "pskkeyd": "pskkey",
}
"""Each program and the module behind it."""

_WIDE: Final = {"COLUMNS": "1000", "PATH": "/usr/bin:/bin", "PYTHON_COLORS": "0"}
_OPTION: Final = re.compile(r"^  (?:-\w, )?(--[a-z-]+)", re.MULTILINE)
_VERB: Final = re.compile(r"^    ([a-z-]+)  +[A-Z]", re.MULTILINE)


@dataclass(frozen=True)
class CommandLine:
    """The command line of a program: its options, and for each verb, of one word or more, the options of the verb."""

    options: frozenset[str]
    verbs: dict[str, frozenset[str]]

    @property
    def all_options(self) -> frozenset[str]:
        """All options, of the program and of its verbs."""
        return self.options.union(*self.verbs.values())


def command_line(program: str) -> CommandLine:
    """Run a program and all its verbs with `--help`, and return its command line."""
    options, first = _help(program, ())
    verbs: dict[str, frozenset[str]] = {}
    waiting: list[tuple[str, ...]] = [(verb,) for verb in first]
    while waiting:
        verb = waiting.pop()
        its_options, further = _help(program, verb)
        waiting += [(*verb, word) for word in further]
        if not further:
            verbs[" ".join(verb)] = its_options
    return CommandLine(options, verbs)


def _help(program: str, verb: Iterable[str]) -> tuple[frozenset[str], list[str]]:
    command = [sys.executable, "-m", MODULES[program], *verb, "--help"]
    text = subprocess.run(command, env=_WIDE, capture_output=True, text=True, check=True).stdout
    return frozenset(_OPTION.findall(text)), _VERB.findall(text)
