"""Sum up the JUnit files of a directory: each file, second run and failure, and then `N passed, N failed`."""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree


def count(path: Path) -> Counter[str]:
    """Return how many tests of a JUnit file passed, failed and were skipped, and `seconds` that they took."""
    counts: Counter[str] = Counter()
    for suite in ElementTree.parse(path).iter("testsuite"):  # noqa: S314
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        counts["failed"] += failed
        counts["skipped"] += skipped
        counts["passed"] += int(suite.get("tests", 0)) - failed - skipped
        counts["seconds"] += round(float(suite.get("time", 0)))
    return counts


def failures(path: Path) -> list[str]:
    """Return a line for each test of a JUnit file that failed: the test, and the first line of the reason."""
    lines = []
    for case in ElementTree.parse(path).iter("testcase"):  # noqa: S314
        for kind in ("failure", "error"):
            if (found := case.find(kind)) is not None:
                reason = found.get("message", "").partition("\n")[0]
                lines.append(f"  {case.get('classname')}::{case.get('name')}: {reason[:200]}")
    return lines


def second_runs(path: Path) -> list[str]:
    """Return a line for each test of a JUnit file that ran again (`tests/second_runs.py`), and why."""
    return [
        f"  {case.get('classname')}::{case.get('name')} ran again: {found.get('value', '')[:200]}"
        for case in ElementTree.parse(path).iter("testcase")  # noqa: S314
        for found in case.iterfind("properties/property[@name='ran again']")
    ]


def main() -> int:
    """Print the summary; return 1 when a test failed or there was none."""
    total: Counter[str] = Counter()
    for path in sorted(Path(sys.argv[1]).glob("*.xml"), key=lambda file: file.stat().st_mtime):
        counts = count(path)
        total.update(counts)
        numbers = ", ".join(f"{counts[name]} {name}" for name in ("passed", "failed", "skipped"))
        print(f"{path.stem}: {numbers}, {counts['seconds']} s")
        for line in (*second_runs(path), *failures(path)):
            print(line)
    print(f"{total['passed']} passed, {total['failed']} failed")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
