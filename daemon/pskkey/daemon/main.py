"""`pskkeyd`: the command line, from the configuration to the running daemon, and the exit codes.

Exit codes: 0 stopped as asked, 1 a defect or a failure at run time, 2 the configuration or the command line is wrong.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from pskkey import __version__
from pskkey.adapters.host.loop_turns import LoopTurns
from pskkey.adapters.host.process import forbid_core_dumps
from pskkey.config.psk import PskFile, find_psk_file, load_psk
from pskkey.config.schema import DEFAULT_CONFIG, Config, load_config, node_id
from pskkey.daemon import logs
from pskkey.daemon.daemon import Daemon, allow_descriptors
from pskkey.daemon.event_kinds import DaemonEvent
from pskkey.daemon.journal import log_event
from pskkey.daemon.log_budget import LogBudget
from pskkey.errors import ConfigError, without_keys


def _report(error: ConfigError, to_journal: bool) -> None:
    for line in str(error).splitlines():
        if to_journal:
            log_event(DaemonEvent.START_FAILED, without_keys(line), {})
        else:
            print(f"pskkeyd: {without_keys(line)}", file=sys.stderr)


def _check(path: Path) -> None:
    """Raise ConfigError when a daemon could not start, or reload, with the present files."""
    config = load_config(path)
    node_id(config)
    load_psk(find_psk_file(config.psk.file, os.environ), config.handoff.users, config.handoff.groups)


def main() -> int:
    """Run the daemon; return its exit code."""
    parser = argparse.ArgumentParser(prog="pskkeyd", description="Group-key daemon for multicast DTLS.")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--check-config", action="store_true", help="check the configuration and end")
    parser.add_argument("--version", action="version", version=f"pskkeyd {__version__}")
    arguments = parser.parse_args()
    forbid_core_dumps()
    try:
        if arguments.check_config:
            _check(arguments.config)
            print(f"{arguments.config}: ok")
            return 0
        budget = logs.configure("info")
        # A file that changes after this point must be read again, so a request to reload waits until it can be served.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        config = load_config(arguments.config)
        logs.set_level(config.log.level)
        allow_descriptors(config)
        psk = load_psk(find_psk_file(config.psk.file, os.environ), config.handoff.users, config.handoff.groups)
        turns = LoopTurns()
        asyncio.run(_run(arguments.config, config, psk, turns, budget), loop_factory=turns.new_event_loop)
    except ConfigError as error:
        _report(error, not arguments.check_config and logs.is_journal(sys.stderr, os.environ))
        return 2
    return 0


async def _run(path: Path, config: Config, psk: PskFile, turns: LoopTurns, budget: LogBudget) -> None:
    with budget.reporting(asyncio.get_running_loop().call_later):
        await Daemon(path, config, psk, turns).run()
