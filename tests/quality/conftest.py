"""Fixtures that several of these tests use."""

import pytest

from tests.quality.programs import MODULES, CommandLine, command_line


@pytest.fixture(scope="session")
def command_lines() -> dict[str, CommandLine]:
    """The command lines of all our programs."""
    return {program: command_line(program) for program in MODULES}
