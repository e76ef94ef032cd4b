"""The manual pages list exactly the options, the settings and the events that exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from logging import ERROR, INFO, WARNING
from pathlib import Path
from typing import Final

import pytest

from pskkey.config.schema import Config
from pskkey.daemon.event_table import EVENTS
from pskkey.daemon.reload import AT_RUN_TIME
from pskkey.model import ConditionKind, Suite
from tests.quality.programs import MODULES, CommandLine
from tests.quality.tracked import ROOT

MANUALS: Final = ROOT / "packaging" / "man"
PAGES: Final = sorted(MANUALS.iterdir())
LEVELS: Final = {"info": INFO, "warning": WARNING, "error": ERROR}


def page_of(program: str) -> str:
    """Return the source of a program's page."""
    (page,) = (page for page in PAGES if page.stem == program)
    return page.read_text(encoding="utf-8")


def table_of(page: str, heading: str) -> str:
    """Return a section of a page, or a part of one, from its heading to the next."""
    found = re.search(rf"^\.S[hs] {re.escape(heading)}\n(.*?)(?=^\.S[hs] )", page, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_well_formed(page: Path) -> None:
    mandoc = shutil.which("mandoc")
    assert mandoc is not None, "apt-get install mandoc"
    done = subprocess.run([mandoc, "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("program", MODULES)
def test_every_option_and_verb_has_its_place(program: str, command_lines: dict[str, CommandLine]) -> None:
    page, there = page_of(program), command_lines[program]
    options = {f"--{name}" for name in re.findall(r"Fl -([a-z][a-z-]+)", page)}
    assert options == there.all_options
    verbs = re.findall(r"^\.It Cm ([a-z-]+(?: [a-z]+)*)", page, re.MULTILINE)
    assert sorted(verbs) == sorted(there.verbs)


def test_every_setting_has_its_place_and_default() -> None:
    page = page_of("pskkey.toml")
    assert re.findall(r"^\.Ss \[(\w+)\]$", page, re.MULTILINE) == list(Config.model_fields)
    listed = {table: settings_listed(table_of(page, f"[{table}]")) for table in Config.model_fields}
    assert listed == {table: dict(settings_of(table)) for table in Config.model_fields}


def settings_listed(text: str) -> dict[str, tuple[str, bool]]:
    """Return for each key in part of the page the default and whether it takes a restart."""
    lines = re.findall(r"^\.It Cm (\w+) No \(default: (.*)\)( Bq restart)?$", text, re.MULTILINE)
    assert len(lines) == text.count("\n.It ") + text.startswith(".It "), text
    return {key: (default.split(", ")[0], bool(restart)) for key, default, restart in lines}


WORDS_FOR_NONE: Final = {
    "id": "derived from /etc/machine-id",
    "name": "the host name",
    "sender_id": "the master chooses one",
}


def settings_of(table: str) -> Iterator[tuple[str, tuple[str, bool]]]:
    """Yield each key with its default, as TOML has it, and whether it takes a restart."""
    values = getattr(Config(), table)
    for key in type(values).model_fields:
        default = getattr(values, key)
        text = WORDS_FOR_NONE[key] if default is None else as_toml(default)
        yield key, (text, key not in AT_RUN_TIME.get(table, ()))


def as_toml(value: object) -> str:
    """Write a default as it stands in the file, with the quotation marks of the page."""
    match value:
        case bool():
            return str(value).lower()
        case Suite():
            return rf"\(dq{value.name}\(dq"
        case str() | Path():
            return rf"\(dq{value}\(dq"
        case tuple():
            return f"[{', '.join(map(as_toml, value))}]"
        case float() if value == 0:
            return "0"
        case _:
            return str(value)


def test_the_example_of_another_group_is_a_configuration() -> None:
    found = re.search(
        r"^\.Bd -literal.*?\n(.*?)^\.Ed$", table_of(page_of("pskkeyd"), "SEVERAL GROUPS"), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    config = Config.parse(found[1], Path("/etc/pskkey/plant.toml"))
    assert config.network.port != Config().network.port
    assert config.psk.file == Path("/etc/pskkey/plant.psk")


def test_every_event_of_the_journal_is_listed() -> None:
    the_list = table_of(page_of("pskkeyd"), "JOURNAL").rpartition(".El\n")[0]
    _, *items = the_list.split(".It Li ")
    listed = []
    for item in items:
        message_id, meaning, rest = item.split("\n", 2)
        (level,) = re.findall(r"^Priority: (\w+)", rest)
        listed.append((message_id, LEVELS[level], meaning.removesuffix("."), " ".join(fields_in(rest))))
    assert listed == [(entry.message_id, entry.level, entry.meaning, entry.fields) for entry in EVENTS.values()]


def fields_in(text: str) -> list[str]:
    """Return the journal fields in a text, as the table of events names them."""
    return [name.lower() for name in re.findall(r"PSKKEY_(\w+)", text)]


def test_every_kind_of_condition_is_listed() -> None:
    section = table_of(page_of("pskkeyctl"), "CONDITIONS")
    assert re.findall(r"^\.It Li (\w+)", section, re.MULTILINE) == [kind.value for kind in ConditionKind]


def test_every_field_of_the_journal_is_explained() -> None:
    after_the_list = table_of(page_of("pskkeyd"), "JOURNAL").rpartition(".El\n")[2]
    assert set(fields_in(after_the_list)) == {name for entry in EVENTS.values() for name in entry.fields.split()}
