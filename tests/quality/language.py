"""Plain English, as far as a program can check it: CONTRIBUTING has the rules and the glossary."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

BARE_SUBJECT: Final = re.compile(r"(?:Who|Whoever|Whom|Whose|What|Whatever|That which|Those who|Those whom|He who)\b")
"""A sentence that begins so has a clause as its subject. A question may."""

BANNED: Final[dict[str, str]] = {
    r"tell(?:s|ing)?|told|say(?:s|ing)?|said|unsaid|untold": "send, report, log, announce, notify, state",
    r"consumers?": "session manager",
    r"heirs?": "successor",
    r"fellows?": "transitional member, neighbour",
    r"doors?": "channel, interface",
    r"roll(?:s|ed|ing)?": "rekey, activate",
    r"wish(?:es|ed)?": "request",
    r"whoever|whomever": "a noun: peer, member, joiner, stranger, user",
    r"(?:own|other|its|their|our|each|one's|winner's|loser's) half|(?:both|two) halves": "partition, side",
    r"com(?:e|es|ing) over": "join, yield",
    r"in vain": "without effect",
    r"absolv(?:e|es|ed)|bury|buries|buried": "clear, remove",
    r"left in peace|lets? it be|turns? (?:the |its )?pages": "the plain verb",
    r"by and by|be it": "the plain word",
}
"""Words that have another one in the glossary, or that are a metaphor, and what to write instead."""

BANNED_IN_NAMES: Final = frozenset(
    {"tell", "tells", "told", "say", "says", "said", "unsaid", "whom", "whoever", "heir", "heirs", "fellow", "fellows"}
    | {"consumer", "consumers", "door", "doors", "roll", "rolls", "rolled", "wish", "wishes", "theirs", "absolve"}
)

NO_VERB: Final = frozenset(
    {"all", "are", "at", "broke", "by", "came", "forgot", "found", "has", "heard", "in", "is", "left", "me", "my", "no"}
    | {"not", "of", "only", "over", "to", "was", "with", "without"}
)
"""A method that returns nothing does something: its name does not begin so."""

_BANNED: Final = re.compile(
    "|".join(rf"(?P<w{number}>\b(?:{words})\b)" for number, words in enumerate(BANNED)), re.IGNORECASE
)
_SENTENCE_END: Final = re.compile(r"(?<=[.?!:;])\s+|\n\s*\n")
_QUOTED: Final = re.compile(r"`[^`]*`|\"[^\"]*\"")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def language_faults(path: str, source: str) -> Iterator[str]:
    """Yield a sentence for each fault of the prose and of the names in a Python file."""
    yield from (f"{path}:{line}: {fault}" for line, text in python_prose(source) for fault in prose_faults(text))
    yield from (f"{path}:{line}: {fault}" for line, fault in name_faults(source))
    if path.startswith("daemon/"):
        yield from (f"{path}:{line}: {fault}" for line, fault in verb_faults(source))


def prose_faults(text: str) -> Iterator[str]:
    """Yield a sentence for each fault of a text of one or more sentences."""
    for sentence in filter(None, map(str.strip, _SENTENCE_END.split(text))):
        plain = _QUOTED.sub("", sentence)
        if BARE_SUBJECT.match(plain.lstrip("#*-> ")) and not plain.rstrip(')"*').endswith("?"):
            yield f"begins with a bare subject: {sentence[:60]!r}"
        for found in _BANNED.finditer(plain):
            instead = list(BANNED.values())[int((found.lastgroup or "w0")[1:])]
            yield f"{found[0]!r} ({instead}): {sentence[:60]!r}"


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments, the docstrings and the messages of a Python file, with their lines."""
    comment: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if comment and token.start[0] != last + 1:
            yield first, "\n".join(comment)
            comment = []
        if not comment:
            first = token.start[0]
        last = token.start[0]
        comment.append(token.string.lstrip("#! "))
    if comment:
        yield first, "\n".join(comment)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
            yield node.lineno, node.value


def name_faults(source: str) -> Iterator[tuple[int, str]]:
    """Yield a sentence for each function, class, method or argument whose name has a banned word."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                pass
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                pass
            case _:
                continue
        for word in _WORDS.findall(name):
            if word.lower() in BANNED_IN_NAMES:
                yield node.lineno, f"the name {name} has the word {word!r}"


def verb_faults(source: str) -> Iterator[tuple[int, str]]:
    """Yield a sentence for each function that does something, and whose name does not begin with a verb."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("__"):
            continue
        returns_nothing = isinstance(node.returns, ast.Constant) and node.returns.value is None
        if returns_nothing and node.name.strip("_").split("_")[0] in NO_VERB:
            yield node.lineno, f"{node.name} does something, and does not begin with a verb"
