"""The command line of the laboratory: runs a scenario several times and reports.

Exit codes: 0 all runs were completed, 1 a run failed, 2 usage, or this machine cannot do it, 4 not root, 130 and 143
interrupted.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from tests.lab.cgroups import NoQuotas
from tests.lab.group import Failed
from tests.lab.kernel_limits import LimitsTooLow
from tests.lab.laboratory import laboratory
from tests.lab.report import Report
from tests.lab.scenarios import SCENARIOS
from tests.lab.scenarios.scenario import Scenario
from tests.lab.trial import Trial


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line that are not in a report, and the scenario."""

    scenario: Scenario
    seconds: float
    has_traffic: bool
    keeps_group: bool
    speed: int | None


async def measure(options: Options, report: Report) -> None:
    """Do the runs of `report` and enter their results. Everything is cleaned up, also when this is cancelled."""
    with laboratory(report.seed, report.nodes, options.speed) as lab:
        count, repeats = (1, report.runs) if options.keeps_group else (report.runs, 1)
        for number in range(1, count + 1):
            group = lab.group(report.nodes)
            trial = Trial(lab, group, number, repeats, options.seconds, has_traffic=options.has_traffic)
            await _run_once(trial, options.scenario, report)


async def _run_once(trial: Trial, scenario: Scenario, report: Report) -> None:
    try:
        await scenario.run(trial)
        trouble = await report.enter(trial)
        trial.laboratory.set_full_speed()
        await trial.group.stop()
    except Failed as error:
        report.enter_figures(trial)
        report.failed.append(f"run {trial.number}: {error}")
        print(f"run {trial.number}: {error}\n{trial.transcript()}", file=sys.stderr, flush=True)
    else:
        if trouble:
            print(f"run {trial.number}: {trouble}\n{trial.transcript()}", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            times = ", ".join(f"{1000 * seconds:.0f} ms" for seconds in trial.measured)
            print(f"run {trial.number}: {times}", file=sys.stderr, flush=True)
    finally:
        trial.destroy()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="tests/lab/run", description="Measure real daemons in network namespaces.")
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--nodes", type=_count, metavar="N", help="how many nodes (default: by the scenario)")
    parser.add_argument("--runs", type=_count, metavar="R", help="how many times (default: by the scenario)")
    parser.add_argument("--seed", type=int, metavar="S", help="repeat the choices of an earlier run")
    parser.add_argument(
        "--seconds", type=float, metavar="T", help="how long the fault lasts (default: by the scenario)"
    )
    parser.add_argument("--speed", type=_percent, metavar="PERCENT", help="the share of one core that each daemon gets")
    parser.add_argument(
        "--no-traffic", action="store_true", help="without session managers, so daemons alone are measured"
    )
    parser.add_argument("--keep-group", action="store_true", help="do all runs with one group")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args(arguments)
    scenario = SCENARIOS[given.scenario]
    if given.no_traffic and scenario.needs_traffic:
        parser.error(f"{given.scenario} measures the traffic itself; leave out --no-traffic")
    if given.keep_group and not scenario.may_keep_group:
        parser.error(f"{given.scenario} needs a new group for each run; leave out --keep-group")
    if os.geteuid() != 0:
        print("tests/lab/run: network namespaces need root; run it with sudo", file=sys.stderr)
        return 4
    seed = time.time_ns() % 1_000_000 if given.seed is None else given.seed
    report = Report(given.scenario, given.nodes or scenario.nodes, given.runs or scenario.runs, seed, given.speed)
    options = Options(
        scenario,
        scenario.seconds if given.seconds is None else given.seconds,
        not given.no_traffic,
        given.keep_group or scenario.keeps_group,
        given.speed,
    )
    if status := run("tests/lab/run", measure(options, report)):
        return status
    print(json.dumps(report.as_json(), indent=2) if given.json else report.as_text())
    return 1 if report.failed else 0


def run(program: str, measuring: Coroutine[None, None, None]) -> int:
    """Measure; return 0, or the exit code if this machine cannot do it, or if a signal interrupts it."""
    interrupted: list[signal.Signals] = []
    try:
        asyncio.run(until_interrupted(measuring, interrupted))
    except (LimitsTooLow, NoQuotas) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        return 128 + interrupted[0]
    return 0


async def until_interrupted(doing: Coroutine[None, None, None], interrupted: list[signal.Signals]) -> None:
    task = asyncio.ensure_future(doing)

    def interrupt(number: signal.Signals) -> None:
        interrupted.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    await task


def _percent(text: str) -> int:
    percent = int(text)
    if not 1 <= percent <= 100:
        raise argparse.ArgumentTypeError("from 1 to 100")
    return percent


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 250:
        raise argparse.ArgumentTypeError("from 1 to 250")
    return count
