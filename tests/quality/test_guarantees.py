"""Each guarantee has a check, and each check a guarantee; each fault against this rule is found."""

import pytest

from tests.quality.guarantees import guarantee_faults
from tests.quality.tracked import ROOT, python_files

LIST = "- **G1** One.\n- **G2** Two.\n"
CHECKS = 'raise Broken("G1", "a")\nraise Broken("G2", f"{b}")\n'


def test_each_guarantee_has_a_check_and_each_check_a_guarantee() -> None:
    sources = {path: source for path, source in python_files().items() if path.startswith("tests/sim/")}
    architecture = (ROOT / "ARCHITECTURE.md").read_text()
    assert "**G1**" in architecture
    assert list(guarantee_faults(architecture, sources)) == []


@pytest.mark.parametrize(
    ("architecture", "checks"),
    [
        (LIST + "- **G4** Four.\n", CHECKS + 'raise Broken("G4", "d")\n'),
        (LIST + "- **G3** Three.\n", CHECKS),
        (LIST, CHECKS + 'raise Broken("G3", "c")\n'),
        (LIST, CHECKS + 'raise Broken("no number")\n'),
        (LIST, CHECKS + "raise Broken(number, text)\n"),
    ],
)
def test_a_number_that_stands_alone_is_found(architecture: str, checks: str) -> None:
    assert not list(guarantee_faults(LIST, {"tests/sim/x.py": CHECKS}))
    assert list(guarantee_faults(architecture, {"tests/sim/x.py": checks}))
