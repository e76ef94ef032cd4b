"""Rules for a source file beside its imports. Each yields a sentence for each fault."""

import ast
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Final

from tests.quality.arrows import arrow_faults

MAX_LINES: Final = 400
"""Lines of a file; most have at most 350. A long file is split only into parts that can be read alone."""

NAMES_WITHOUT_MEANING: Final = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})
WAYS_TO_SKIP: Final = frozenset({"skip", "skipif", "importorskip", "xfail"})
PUBLIC_ALL_THE_SAME: Final = frozenset({"_asdict", "_fields", "_make", "_replace", "_setupstate"})
"""Methods of `collections.namedtuple`, which its documentation declares public. pytest ends the present fixtures only
with `_setupstate`."""
MAY_SKIP: Final = "tests/conftest.py"
"""This file looks for CI, where no test may be skipped, for all tests."""


def length_faults(path: str, source: str) -> Iterator[str]:
    """A file is short enough to be read at once."""
    lines = len(source.splitlines())
    if lines > MAX_LINES:
        yield f"{path}: {lines} lines, more than {MAX_LINES}; it has two jobs"


def name_faults(path: str, _source: str) -> Iterator[str]:
    """The name of a file states its purpose."""
    if PurePosixPath(path).stem in NAMES_WITHOUT_MEANING:
        yield f"{path}: a name without a meaning"


def docstring_faults(path: str, source: str) -> Iterator[str]:
    """The first line of a file states its purpose."""
    if source.strip() and ast.get_docstring(ast.parse(source)) is None:
        yield f"{path}: has no module docstring"


def skip_faults(path: str, source: str) -> Iterator[str]:
    """A test may be skipped only by a function that looks for CI."""
    if path == MAY_SKIP:
        return
    tree = ast.parse(source)
    guarded = {id(node) for function in ast.walk(tree) if _looks_for_ci(function) for node in ast.walk(function)}
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Attribute) and node.attr in WAYS_TO_SKIP and _is_pytest(node.value):
            yield f"{path}:{node.lineno}: pytest's {node.attr}; mark it `root`, or add its package to {MAY_SKIP}"
        if isinstance(node, ast.ImportFrom) and node.module == "pytest":
            yield from (f"{path}: imports {name.name} of pytest" for name in node.names if name.name in WAYS_TO_SKIP)


def untrusted_faults(path: str, source: str) -> Iterator[str]:
    """In `wire`, the name of a function that decodes ends in `_untrusted`, and it raises only BadPacket."""
    if not path.startswith("daemon/pskkey/wire/"):
        return
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not function.name.endswith("_untrusted"):
            if function.name.lstrip("_").startswith(("decode", "receive", "unpack")):
                yield f"{path}:{function.lineno}: {function.name} does not end in _untrusted"
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Raise) and not _raises_bad_packet(node):
                yield f"{path}:{node.lineno}: {function.name} raises another error than BadPacket"


def private_faults(path: str, source: str) -> Iterator[str]:
    """A test uses only public names, and the private names of its own file."""
    if not path.startswith("tests/"):
        return
    nodes = list(ast.walk(ast.parse(source)))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value)
    }
    for node in nodes:
        if (
            isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.endswith("__")
            and node.attr not in PUBLIC_ALL_THE_SAME | own
            and not _is_self(node.value)
        ):
            yield f"{path}:{node.lineno}: uses the private {node.attr}"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def _looks_for_ci(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return any(isinstance(inner, ast.Constant) and inner.value == "CI" for inner in ast.walk(node))


def _is_pytest(node: ast.expr) -> bool:
    return ast.unparse(node) in {"pytest", "pytest.mark"}


def _raises_bad_packet(node: ast.Raise) -> bool:
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return raised is None or (isinstance(raised, ast.Name) and raised.id in ("BadPacket", "NoCommonLevel"))


RULES: Final[tuple[Callable[[str, str], Iterator[str]], ...]] = (
    arrow_faults,
    length_faults,
    name_faults,
    docstring_faults,
    skip_faults,
    untrusted_faults,
    private_faults,
)
