"""On the Tab key, bash and zsh offer the options and verbs that the programs accept."""

import re
import secrets
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.quality.programs import CommandLine
from tests.quality.tracked import ROOT

COMPLETIONS: Final = ROOT / "packaging" / "completions"

IN_BASH: Final = r"""
source "$1"; shift
compopt() { :; }
for line; do
    read -ra COMP_WORDS <<<"$line."   # an unfinished word, which may be empty, ends in the dot
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    COMP_WORDS[COMP_CWORD]=${COMP_WORDS[COMP_CWORD]%.}
    function=$(complete -p "${COMP_WORDS[0]}"); function=${function#*-F }
    "${function%% *}" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[@]}"
    printf '\001'
done
"""

# zsh completes only on a terminal.
IN_ZSH: Final = r"""
zmodload zsh/zpty
zpty shell zsh -f
zpty -w shell "PS1=go: LISTMAX=0; stty -echo cols 200 rows 100; fpath=(${(q)1:h} \$fpath)"
zpty -w shell 'autoload compinit; compinit -u -D; zstyle ":completion:*" verbose no; bindkey "^I" list-choices'
zpty -w shell "print re''ady"
zpty -r shell output '*ready*go:*'
shift
for line; do
    number=$((number + 1))  # quotes in the typed text: only the output matches; a line typed before the prompt is lost
    zpty -w -n shell "$line"$'\t\x15'"print over''$number:"$'\n'
    zpty -r shell output "*over$number:*go:*"
    print -rn -- $output$'\001'
done
"""

SHELLS: Final = {"bash": (IN_BASH, COMPLETIONS / "pskkey.bash"), "zsh": (IN_ZSH, COMPLETIONS / "_pskkey")}


def offered(shell: str, lines: Sequence[str]) -> dict[str, set[str]]:
    """Return for each unfinished line the words that the shell offers, if they may be options or verbs."""
    script, completion = SHELLS[shell]
    command = [shell, "-c", script, shell, str(completion), *lines]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", output)  # sequences that move the cursor
    words = [set(re.findall(r"(?<![\w-])(--[a-z-]+|[a-z][a-z-]+)(?![\w/-])", part)) for part in text.split("\1")]
    return dict(zip(lines, words[:-1], strict=True))


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Each shell in turn."""
    return str(request.param)


def options(words: Iterable[str]) -> set[str]:
    """Return the words that are options."""
    return {word for word in words if word.startswith("--")}


def test_every_option_is_offered(shell: str, command_lines: dict[str, CommandLine]) -> None:
    expected = {f"{program} --": set(line.options) for program, line in command_lines.items()}
    expected |= {f"pskkeyctl {verb} --": set(has) for verb, has in command_lines["pskkeyctl"].verbs.items()}
    found = offered(shell, list(expected))
    assert {line: options(words) for line, words in found.items()} == expected


def test_every_verb_is_offered(shell: str, command_lines: dict[str, CommandLine]) -> None:
    first = {verb.split()[0] for verb in command_lines["pskkeyctl"].verbs}
    second = {verb.split()[1] for verb in command_lines["pskkeyctl"].verbs if " " in verb}
    found = offered(shell, ["pskkeyctl ", "pskkeyctl psk "])
    assert found["pskkeyctl "] >= first
    assert found["pskkeyctl psk "] >= second


def test_the_identities_in_the_psk_file_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    psk, program = tmp_path / "psk", tmp_path / "pskkeyctl"
    psk.touch(0o600)
    psk.write_text("".join(f"{name}:{secrets.token_hex(32)}\n" for name in ("old-one", "new-one")))
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pskkey.tools.ctl.pskkeyctl "$@" --file {psk}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    lines = ["pskkeyctl psk use ", "pskkeyctl psk remove ol"]
    assert list(offered("bash", lines).values()) == [{"old-one", "new-one"}, {"old-one"}]


def test_an_option_before_the_verb_is_skipped() -> None:
    lines = ["pskkeyctl --socket /run/x wait --", "pskkeyctl --timeout 5 rekey --"]
    found = offered("bash", lines)
    assert options(found[lines[0]]) > {"--synced"}
    assert options(found[lines[1]]) > {"--wait"}
