"""`pskkeyctl metrics`: the text format of Prometheus, read by a strict parser, and the same as JSON."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pskkey.daemon.event_kinds import NodeEvent
from pskkey.tools.ctl.metrics import COUNTERS
from tests.tools.ctl.pskkeyctl_process import CLIENT, LISTENING, MASTER, daemon, run

DAEMON = Path(__file__).parents[3] / "daemon" / "pskkey"
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|Inf)|NaN")
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

type Labels = tuple[tuple[str, str], ...]


class Family(NamedTuple):
    """A metric with all its samples."""

    kind: str
    help: str
    samples: dict[Labels, float]


def parse(text: str) -> dict[str, Family]:
    """Read an exposition (prometheus.io/docs/instrumenting/exposition_formats, 0.0.4); fail on any deviation."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    lines = iter(text[:-1].split("\n"))
    last = ""
    for line in lines:
        if line.startswith("# HELP "):
            name, _, words = line.removeprefix("# HELP ").partition(" ")
            assert NAME.fullmatch(name)
            assert name not in families, "each metric stands in one group"
            assert words
            assert not re.search(r"\\(?![\\n])", words)
            kind = re.fullmatch(rf"# TYPE {name} (counter|gauge)", next(lines))
            assert kind, "HELP is followed by TYPE"
            families[name] = Family(kind[1], words, {})
            last = name
            continue
        matched = re.fullmatch(r"([^{ ]+)(?:\{(.*)\})? (\S+)", line)
        assert matched, line
        assert matched[1] == last, "a sample stands below its HELP and TYPE"
        assert NUMBER.fullmatch(matched[3]), line
        labels = parse_labels(matched[2])
        assert labels not in families[last].samples, "each set of labels stands once"
        families[last].samples[labels] = float(matched[3])
    return families


def parse_labels(text: str | None) -> Labels:
    if text is None:
        return ()
    labels, rest = [], text
    assert text
    while rest:
        matched = LABEL.match(rest)
        assert matched, text
        labels.append((matched[1], re.sub(r"\\.", lambda found: UNESCAPED[found[0]], matched[2])))
        rest = rest[matched.end() :]
        assert rest or matched[3] == "", "no comma at the end"
    assert len({name for name, _ in labels}) == len(labels)
    return tuple(labels)


@pytest.mark.parametrize(
    "wrong",
    [
        "a 1\n",
        "# HELP a x\n# TYPE a gauge\nb 1\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\na 1\n",
        "# HELP a x\n# TYPE a gauge\na one\n",
        '# HELP a x\n# TYPE a gauge\na{l="x"y"} 1\n',
        '# HELP a x\n# TYPE a gauge\na{l="x\\y"} 1\n',
        '# HELP a x\n# TYPE a gauge\na{l="x\ny"} 1\n',
        '# HELP a x\n# TYPE a gauge\na{l="1"} 1\na{l="1"} 2\n',
    ],
)
def test_parser_of_this_test_is_strict(wrong: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        parse(wrong)


async def metrics_of(path: Path, status: dict[str, Any]) -> dict[str, Family]:
    """Return the metrics of a status, after a check that JSON has the same."""
    async with daemon(path, status):
        text = await run("metrics", "--socket", path)
        as_json = await run("metrics", "--socket", path, "--json")
    assert (text.code, text.errors, as_json.code) == (0, "", 0)
    families = parse(text.output)
    decoded = json.loads(as_json.output)
    assert decoded["schema"] == 1
    assert {family["name"]: (family["type"], family["help"]) for family in decoded["metrics"]} == {
        name: (family.kind, family.help) for name, family in families.items()
    }
    for family in decoded["metrics"]:
        samples = {tuple(sample["labels"].items()): sample["value"] for sample in family["samples"]}
        assert samples == families[family["name"]].samples
    return families


async def test_metrics_of_a_master(tmp_path: Path) -> None:
    families = await metrics_of(tmp_path / "c", {**MASTER, "loop_away_ms": 12.5})
    values = {name: family.samples[()] for name, family in families.items() if () in family.samples}
    assert (
        values
        | {
            "pskkey_term": 3,
            "pskkey_epoch": 7,
            "pskkey_key_age_seconds": 12.3,
            "pskkey_keys": 2,
            "pskkey_members": 2,
            "pskkey_members_late": 1,
            "pskkey_loop_away_ms": 12.5,
            "pskkey_sessions": 1,
            "pskkey_sessions_sending": 1,
            "pskkey_priority": 100,
            "pskkey_eligible": 1,
            "pskkey_handshakes_ok_total": 12,
            "pskkey_handshakes_failed_total": 2,
            "pskkey_rekeys_total": 0,
        }
        == values
    )
    assert families["pskkey_role"].samples == {
        (("role", role),): float(role == "master") for role in ("listening", "joining", "client", "master")
    }
    assert families["pskkey_build_info"].samples == {(("version", "0.1.0"),): 1}
    assert all((family.kind == "counter") is name.endswith("_total") for name, family in families.items())


async def test_metrics_of_a_client_and_of_a_node_without_a_group(tmp_path: Path) -> None:
    client = await metrics_of(tmp_path / "c", CLIENT)
    assert client["pskkey_role"].samples[(("role", "client"),)] == 1
    assert client["pskkey_members_late"].samples == {(): 0}
    listening = await metrics_of(tmp_path / "c", LISTENING)
    assert listening["pskkey_epoch"].samples == {(): 0}
    assert listening["pskkey_key_age_seconds"].samples == {}
    assert listening["pskkey_loop_away_ms"].samples == {}, "an older daemon does not report it"


@pytest.mark.parametrize("name", ['a"} 1\npskkey_term 9 #', "back\\slash\\n", "two\nlines", 'x",y="z', "ü "])
async def test_names_cannot_forge_metrics(tmp_path: Path, name: str) -> None:
    node = {**MASTER["node"], "name": name}
    families = await metrics_of(tmp_path / "c", {**MASTER, "node": node, "group": name})
    ((labels, value),) = families["pskkey_node_info"].samples.items()
    assert (dict(labels), value) == ({"group": name, "id": MASTER["node"]["id"], "name": name}, 1)
    assert families["pskkey_term"].samples == {(): 3}


async def test_control_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    async with daemon(tmp_path / "c", {**MASTER, "group": "\x1b[31m\r"}):
        result = await run("metrics", "--socket", tmp_path / "c")
    assert 'group="?[31m?"' in result.output


async def test_unknown_counters_of_a_newer_daemon_are_skipped(tmp_path: Path) -> None:
    families = await metrics_of(tmp_path / "c", {**MASTER, "counters": {"new_in_2030": 5, "elections": 2**53}})
    assert families["pskkey_elections_total"].samples == {(): 2**53}
    assert "pskkey_new_in_2030_total" not in families


async def test_no_daemon_is_unreachable(tmp_path: Path) -> None:
    result = await run("metrics", "--socket", tmp_path / "none")
    assert (result.code, result.output) == (3, "")


def test_every_counter_of_the_daemon_is_a_metric() -> None:
    counted = set(map(str, NodeEvent))
    for source in (DAEMON / "adapters").rglob("*.py"):
        for place in re.findall(r"_counters\[(.+?)\] \+= 1", source.read_text("utf-8")):
            names = re.findall(r'"(\w+)"', place)
            assert names, f"{source.name}: {place}"
            counted.update(names)
    assert len(counted) > 25
    assert counted == COUNTERS.keys()
