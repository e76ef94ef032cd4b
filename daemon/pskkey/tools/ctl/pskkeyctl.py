"""`pskkeyctl`: shows the state of the daemon, sends it commands, and checks and makes its files.

A verb imports the modules that it needs beyond the socket when it is called, so that `status` answers at once.
Exit codes: 0 ok, 1 error, 2 usage, 3 daemon unreachable, 4 denied, 5 timeout, 10 degraded (no master yet), and
those of `pskkey.program`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NoReturn

from pskkey import __version__, arguments, program
from pskkey.errors import PskkeyError, Unreachable
from pskkey.model import MAX_EPOCH
from pskkey.tools.ctl.control_client import DEFAULT_SOCKET, SOCKET_VARIABLE, Denied, get_status
from pskkey.tools.ctl.status_reading import Status
from pskkey.tools.ctl.status_view import Painter, render_keys, render_members, render_status

ROLES: Final = ("listening", "joining", "client", "master")
MAX_TIMEOUT: Final = 1e6
"""Seconds: the largest `--timeout`."""
ANSWER_WITHIN: Final = 5.0
"""Seconds for the daemon's answer, without `--timeout`."""
WAIT: Final = 30.0
"""Seconds that a verb waits for its goal, without `--timeout`."""


class ExitCode(IntEnum):
    """The exit codes."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    DENIED = 4
    TIMEOUT = 5
    DEGRADED = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return program.run("pskkeyctl", lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = _parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], ExitCode] = options.run
    try:
        return verb(options)
    except Denied as error:
        return _failed(error, ExitCode.DENIED)
    except Unreachable as error:
        return _failed(error, ExitCode.UNREACHABLE)
    except TimeoutError as error:
        return _failed(error, ExitCode.TIMEOUT)
    except (PskkeyError, OSError) as error:
        return _failed(error, ExitCode.ERROR)


def _failed(error: Exception, code: ExitCode) -> ExitCode:
    for line in str(error).splitlines():
        print(f"pskkeyctl: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pskkeyctl",
        description="Show the state of pskkeyd, and control it. Without a verb: status.",
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 daemon unreachable, 4 denied, 5 timeout, 10 no master yet.",
        # The same options may come before and after the verb. Only here they have defaults.
        parents=[_socket_options(None), _json_options(False), _timeout_options(None)],
    )
    parser.add_argument("--version", action="version", version=f"pskkeyctl {__version__}")
    parser.set_defaults(run=_status)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    at_socket, as_json = _socket_options(argparse.SUPPRESS), _json_options(argparse.SUPPRESS)
    within = _timeout_options(argparse.SUPPRESS)

    def add(
        name: str, run: Callable[[argparse.Namespace], ExitCode], text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text, parents=parents)
        verb.set_defaults(run=run)
        return verb

    add("status", _status, "Show this node, its master, its keys and what is wrong.", at_socket, as_json, within)
    add("members", _members, "List the members of the group.", at_socket, as_json, within)
    add("keys", _keys, "List the keys that this node holds, by their fingerprints.", at_socket, as_json, within)
    add("metrics", _metrics, "Print counters and gauges for Prometheus.", at_socket, as_json, within)
    add("monitor", _monitor, "Show each change as it happens, until Ctrl-C.", at_socket, as_json)
    wait = add("wait", _wait, "Wait until this node reaches a goal, also across restarts.", at_socket, within)
    goal = wait.add_mutually_exclusive_group(required=True)
    goal.add_argument(
        "--epoch",
        type=arguments.integer(1, MAX_EPOCH),
        metavar="N",
        help="it sends with the key of this epoch or a later one; after 65535 comes 1",
    )
    goal.add_argument("--role", choices=ROLES, metavar="ROLE", help=f"it is {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    goal.add_argument(
        "--synced", action="store_true", help="it has joined, and as far as it knows all members have the same key"
    )
    rekey = add("rekey", _rekey, "Replace the group key by a new one.", at_socket, as_json, within)
    rekey.add_argument("--wait", action="store_true", help="until the new key is in use, and the members have it")
    switch = add("switchover", _switch_over, "Hand the mastership to another node.", at_socket, as_json, within)
    switch.add_argument(
        "node", nargs="?", metavar="NODE", help="its name or id, or the beginning of the id; default: the successor"
    )
    switch.add_argument("--wait", action="store_true", help="until this node has joined the new master")
    check = add("check-config", _check_config, "Check the configuration and the pre-shared keys.")
    check.add_argument("--config", type=Path, metavar="FILE", help="default: /etc/pskkey.toml")
    text = "Find out why this node does not find its group: check this machine, the network and the other nodes."
    doctor = add("doctor", _doctor, text, at_socket, as_json, within)
    doctor.add_argument("--config", type=Path, metavar="FILE", help="default: /etc/pskkey.toml")
    _add_psk_verbs(add("psk", _status, "Make a pre-shared key, or move to a new one."))
    return parser


def _add_psk_verbs(parser: argparse.ArgumentParser) -> None:
    psk = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    text = "Make a random pre-shared key: a line for /etc/pskkey.psk, the same on every node."
    generate = psk.add_parser("generate", help=text, description=text)
    generate.set_defaults(run=_psk_generate)
    generate.add_argument(
        "--identity", type=arguments.psk_identity, metavar="ID", help="the name of the key; default: a random one"
    )
    generate.add_argument("--output", type=Path, metavar="FILE", help="a new file for it, instead of standard output")
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("--file", type=Path, metavar="FILE", help="the PSK file; default: that of the configuration")
    file.add_argument("--config", type=Path, metavar="FILE", help="default: /etc/pskkey.toml")
    for name, text, argument in (
        ("list", "List the identities in the PSK file: the first is in use, the others are accepted too.", None),
        ("add", "Add a key below those in the PSK file, from a file or, for -, from standard input.", "SOURCE"),
        ("use", "Put the key of an identity first in the PSK file: the daemon uses it from its next reload on.", "ID"),
        ("remove", "Remove the key of an identity, which may not be the one in use.", "ID"),
    ):
        verb = psk.add_parser(name, help=text, description=text, parents=[file])
        verb.set_defaults(run=_psk, verb=name)
        if argument is not None:
            verb.add_argument("argument", metavar=argument)
        else:
            verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for programs: JSON")


def _socket_options(default: Any) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--socket", type=Path, default=default, metavar="PATH", help=f"default: ${SOCKET_VARIABLE}, {DEFAULT_SOCKET}"
    )
    return options


def _json_options(default: Any) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--json", action="store_true", default=default, help="for programs: JSON, schema 1")
    return options


def _timeout_options(default: Any) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    text = f"seconds to wait; default: {ANSWER_WITHIN:g}, with wait and --wait {WAIT:g}"
    options.add_argument("--timeout", type=arguments.seconds(MAX_TIMEOUT), default=default, metavar="S", help=text)
    return options


def _status(options: argparse.Namespace) -> ExitCode:
    parameters, status = _get_status(options)
    _show(options, parameters, render_status(status, _painter(os.environ)))
    return ExitCode.OK if status.joined else ExitCode.DEGRADED


def _members(options: argparse.Namespace) -> ExitCode:
    parameters, status = _get_status(options)
    selected = {name: parameters[name] for name in ("schema", "group", "role", "term", "members")}
    _show(options, selected, render_members(status, _painter(os.environ)))
    return ExitCode.OK


def _keys(options: argparse.Namespace) -> ExitCode:
    parameters, status = _get_status(options)
    selected = {name: parameters[name] for name in ("schema", "group", "role", "term", "keys")}
    _show(options, selected, render_keys(status, _painter(os.environ)))
    return ExitCode.OK


def _metrics(options: argparse.Namespace) -> ExitCode:
    from pskkey.tools.ctl.metrics import SCHEMA, exposition, metrics

    families = metrics(_get_status(options)[1])
    _show(options, {"schema": SCHEMA, "metrics": families}, list(exposition(families)))
    return ExitCode.OK


def _monitor(options: argparse.Namespace) -> NoReturn:
    from pskkey.tools.ctl.follow_verbs import monitor

    monitor(_socket(options), options.json)


def _wait(options: argparse.Namespace) -> ExitCode:
    from pskkey.tools.ctl.follow_verbs import has_epoch, has_role, is_synced, wait_until

    path, timeout = _socket(options), options.timeout or WAIT
    if options.synced:
        wait_until(path, is_synced, "synced:", timeout)
    elif options.role is not None:
        wait_until(path, has_role(options.role), f"role {options.role}:", timeout)
    else:
        wait_until(path, has_epoch(options.epoch), f"epoch {options.epoch}:", timeout)
    return ExitCode.OK


def _rekey(options: argparse.Namespace) -> ExitCode:
    from pskkey.tools.ctl.follow_verbs import rekey

    rekey(_socket(options), options.wait, _timeout(options), options.json)
    return ExitCode.OK


def _switch_over(options: argparse.Namespace) -> ExitCode:
    from pskkey.tools.ctl.follow_verbs import switch_over

    switch_over(_socket(options), options.node, options.wait, _timeout(options), options.json)
    return ExitCode.OK


def _check_config(options: argparse.Namespace) -> ExitCode:
    from pskkey.tools.ctl.setup_verbs import check_config

    check_config(options.config)
    return ExitCode.OK


def _doctor(options: argparse.Namespace) -> ExitCode:
    from pskkey.tools.ctl.doctor import examine
    from pskkey.tools.ctl.doctor_finding import encode_findings, render_findings

    given = options.socket or os.environ.get(SOCKET_VARIABLE)
    findings = examine(options.config, Path(given) if given else None, options.timeout or ANSWER_WITHIN)
    _show(options, encode_findings(findings), render_findings(findings, _painter(os.environ)))
    return ExitCode.OK if all(one.ok for one in findings) else ExitCode.ERROR


def _psk_generate(options: argparse.Namespace) -> ExitCode:
    from pskkey.tools.ctl.setup_verbs import psk_generate

    psk_generate(options.identity, options.output)
    return ExitCode.OK


def _psk(options: argparse.Namespace) -> ExitCode:

    from pskkey.tools.ctl import psk_verbs

    path = psk_verbs.psk_path(options.file, options.config)
    if options.verb == "list":
        psk_verbs.psk_list(path, options.json)
        return ExitCode.OK
    change = {"add": psk_verbs.psk_add, "use": psk_verbs.psk_use, "remove": psk_verbs.psk_remove}[options.verb]
    what = change(path, options.argument)
    print(f"{path}: {what}; {psk_verbs.next_step(options.file, options.config)}", file=sys.stderr)
    return ExitCode.OK


def _get_status(options: argparse.Namespace) -> tuple[dict[str, Any], Status]:
    return get_status(_socket(options), options.timeout or ANSWER_WITHIN)


def _socket(options: argparse.Namespace) -> Path:
    return Path(options.socket or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)


def _timeout(options: argparse.Namespace) -> float:
    return float(options.timeout or (WAIT if options.wait else ANSWER_WITHIN))


def _show(options: argparse.Namespace, parameters: Mapping[str, Any], lines: Sequence[str]) -> None:
    print(json.dumps(parameters, indent=2) if options.json else "\n".join(lines))


def _painter(environ: Mapping[str, str]) -> Painter:
    """Return a painter with colour for a terminal that has it, unless NO_COLOR (no-color.org) asks for none."""
    return Painter(sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")


if __name__ == "__main__":
    sys.exit(main())
