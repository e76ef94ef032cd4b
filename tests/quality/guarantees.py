"""The guarantees in ARCHITECTURE.md and the checks of the simulator name each other."""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Final

LISTED: Final = re.compile(r"^- \*\*(G[0-9]+)\*\* ", re.MULTILINE)
CHECK: Final = "Broken"
"""The error of a check: its first argument is the number of its guarantee."""


def guarantee_faults(architecture: str, sources: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each guarantee without a check, and for each check in `sources` without a guarantee."""
    listed = LISTED.findall(architecture)
    if listed != [f"G{n}" for n in range(1, len(listed) + 1)]:
        yield f"ARCHITECTURE.md numbers its guarantees {', '.join(listed)}"
    checked = set()
    for path, source in sources.items():
        for call in ast.walk(ast.parse(source)):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == CHECK):
                continue
            number = call.args[0] if call.args else None
            if not (isinstance(number, ast.Constant) and number.value in listed):
                yield f"{path}:{call.lineno}: a check that names no guarantee of ARCHITECTURE.md"
            else:
                checked.add(number.value)
    for number in listed:
        if number not in checked:
            yield f"ARCHITECTURE.md: nothing checks {number}"
