"""All text of the project is plain English, as far as a program can check it; and the checker finds the old dialect."""

import pytest

from tests.quality.language import language_faults, prose_faults
from tests.quality.tracked import ROOT, python_files, tracked_files

DOCUMENTS = {".md", ".1", ".5", ".8", ".toml", ".service", ".socket", ".conf", ".sh", ".c", ".h", ".txt", ""}
"""Suffixes of the other files with prose in them."""

ITSELF = ("tests/quality/language.py", "tests/quality/test_language.py")
"""They quote the words that are banned."""


def test_python_files_are_in_plain_english() -> None:
    files = {path: source for path, source in python_files().items() if path not in ITSELF}
    assert {"daemon/pskkey/core/election.py", "tests/sim/run", "tests/conftest.py"} <= files.keys()
    assert [fault for path, source in files.items() for fault in language_faults(path, source)] == []


def test_documents_are_in_plain_english() -> None:
    scripts = python_files()
    paths = [p for p in tracked_files() if p.suffix in DOCUMENTS and str(p) not in scripts and p.name != "LICENSE"]
    assert {"README.md", "ARCHITECTURE.md", "etc/pskkey.toml", "packaging/man/pskkeyd.8"} <= set(map(str, paths))
    faults = [
        f"{path}: {fault}"
        for path in paths
        for paragraph in (ROOT / path).read_text("utf-8").split("\n\n")
        for fault in prose_faults(paragraph)
    ]
    assert faults == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Who was in a group with us a moment ago and is not where we are now.",
        "Whoever comes over from another half goes on sending with the key of its own half.",
        "Those whom we follow have gone on from it to another key.",
        "they roll above it, be it for the second time",
        "It alone starts a rekey and turns its pages.",
        "What is overdue by now is due now: who began with what was saved long ago was not asleep since then.",
        "A master repeats itself: mDNS would not say again that it is master.",
        "A node without such a member lets it be.",
        "What still comes on a session that we have closed is nobody's.",
        "What we come to hold by joining is new to us only.",
        "Whoever comes next has heard nothing of it yet.",
        "Until then, which is some time after the first key was there to be told, more may come than are known.",
        "Whoever is told to drop a key drops its sequence numbers too.",
        "They can be members, but to hand a group over to one is in vain.",
        "Its other memory has been told of the key that is on its way, if it was a member of ours.",
        "The master tells us who comes after it: perhaps we.",
        "Say what changes our state for the service manager, which waits for it.",
        "What all our programs have around their main function, until Ctrl-C.",
        "Who leaves a step out splits the group until all nodes are through; then it heals by itself.",
        "(more of it within 10 s is not told)",
        "All that a consumer needs to know, in full.",
        "Bury the dead, and give their places away.",
        "Forget the failures of its heir.",
        "A fellow is awaited at this door.",
    ],
)
def test_sentence_of_the_old_text_is_found(sentence: str) -> None:
    assert list(prose_faults(sentence))
    assert list(language_faults("x.py", f'"""{sentence}"""'))
    assert list(language_faults("x.py", f"# {sentence}"))


@pytest.mark.parametrize(
    "name",
    [
        "heir",
        "_told",
        "are_told",
        "say_status",
        "tell",
        "roll_key",
        "close_door",
        "from_consumer",
        "KeyRolled",
        "their_wish",
    ],
)
def test_banned_word_in_a_name_is_found(name: str) -> None:
    assert list(language_faults("x.py", f"def {name}(): ..."))
    assert list(language_faults("x.py", f"def f({name}): ..."))
    assert list(language_faults("x.py", f"self.{name} = 1"))


@pytest.mark.parametrize(
    "source",
    [
        "def heard(self) -> None: ...",
        "def to_joiner(self) -> None: ...",
        "def without_master(self) -> None: ...",
        "async def found(self) -> None: ...",
    ],
)
def test_method_without_a_verb_is_found(source: str) -> None:
    assert list(language_faults("daemon/pskkey/x.py", source))


@pytest.mark.parametrize(
    "sentence",
    [
        "A node without a key is refused.",
        "Who may send with it?",
        "The rollout of a new version takes three steps.",
        'The message "who are you" is quoted.',
        "Half of the interval, in seconds.",
        "The outdoor unit has `said` as a field.",
    ],
)
def test_plain_sentence_is_left_alone(sentence: str) -> None:
    assert not list(prose_faults(sentence))
