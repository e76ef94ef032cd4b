"""`pskkeyctl`: shows what the daemon is doing, and checks and makes what it needs.

Exit codes: 0 ok, 1 error, 2 usage, 3 daemon unreachable, 4 denied, 5 timeout, 10 degraded (no master yet), 130 Ctrl-C.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from pskkey import __version__
from pskkey.config import DEFAULT_CONFIG, load_config, node_id
from pskkey.errors import BadPacket, ConfigError, PskkeyError, Unreachable
from pskkey.psk import CREDENTIAL_NAME, find_psk_file, generate_psk_line, load_psk
from pskkey.tools.control_client import DEFAULT_SOCKET, SOCKET_VARIABLE, Denied, call
from pskkey.tools.status_view import Painter, Status, render_keys, render_members, render_status

_CREDENTIAL_STORES: Final = [
    Path(root, store) for root in ("/etc", "/run", "/usr/lib") for store in ("credstore.encrypted", "credstore")
]
"""Where `ImportCredential=` of systemd.exec(5) looks."""


class ExitCode(IntEnum):
    """What the shell is told."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    DENIED = 4
    TIMEOUT = 5
    DEGRADED = 10
    INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = _parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], ExitCode] = options.run
    try:
        # A name that the terminal's character set lacks is no reason to fail.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        code = verb(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Denied as error:
        return _failed(error, ExitCode.DENIED)
    except Unreachable as error:
        return _failed(error, ExitCode.UNREACHABLE)
    except TimeoutError as error:
        return _failed(error, ExitCode.TIMEOUT)
    except (PskkeyError, OSError) as error:
        return _failed(error, ExitCode.ERROR)
    return code


def _failed(error: Exception, code: ExitCode) -> ExitCode:
    for line in str(error).splitlines():
        print(f"pskkeyctl: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    reading = _reading_options(argparse.SUPPRESS)
    parser = argparse.ArgumentParser(
        prog="pskkeyctl",
        description="See what pskkeyd is doing. Without a verb: status.",
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 daemon unreachable, 4 denied, 5 timeout, 10 no master yet.",
        # The same options stand before and behind the verb; only here do they have defaults.
        parents=[_reading_options(None)],
    )
    parser.add_argument("--version", action="version", version=f"pskkeyctl {__version__}")
    parser.set_defaults(run=_status)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")

    def add(
        name: str, run: Callable[[argparse.Namespace], ExitCode], text: str, *parents: argparse.ArgumentParser
    ) -> Any:
        verb = verbs.add_parser(name, help=text, description=text, parents=parents)
        verb.set_defaults(run=run)
        return verb

    add("status", _status, "Show this node, its master, its keys and what is wrong.", reading)
    add("members", _members, "List the members of the group.", reading)
    add("keys", _keys, "List the keys that this node holds, by their fingerprints.", reading)
    check = add("check-config", _check_config, "Check the configuration and the pre-shared keys.")
    check.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
    psk = add("psk", _status, "Make a pre-shared key.").add_subparsers(title="verbs", metavar="VERB", required=True)
    text = "Make a random pre-shared key: a line for /etc/pskkey.psk, the same on every node."
    generate = psk.add_parser("generate", help=text, description=text)
    generate.set_defaults(run=_psk_generate)
    generate.add_argument("--identity", metavar="ID", help="the name of the key; default: a random one")
    generate.add_argument("--output", type=Path, metavar="FILE", help="a new file for it, instead of standard output")
    return parser


def _reading_options(default: Any) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    json_default = default if default is argparse.SUPPRESS else False
    options.add_argument("--json", action="store_true", default=json_default, help="for programs: JSON, schema 1")
    options.add_argument(
        "--socket", type=Path, default=default, metavar="PATH", help=f"default: ${SOCKET_VARIABLE}, {DEFAULT_SOCKET}"
    )
    timeout = default if default is argparse.SUPPRESS else 5.0
    options.add_argument("--timeout", type=_seconds, default=timeout, metavar="S", help="seconds to wait; default: 5")
    return options


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError
    return seconds


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


def _get_status(options: argparse.Namespace) -> tuple[dict[str, Any], Status]:
    path = Path(options.socket or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)
    parameters = call(path, "GetStatus", {}, options.timeout)
    try:
        return parameters, Status.parse_untrusted(parameters)
    except BadPacket as error:
        raise BadPacket(f"{path}: {error}") from None


def _show(options: argparse.Namespace, parameters: Mapping[str, Any], lines: Sequence[str]) -> None:
    print(json.dumps(parameters, indent=2) if options.json else "\n".join(lines))


def _painter(environ: Mapping[str, str]) -> Painter:
    """Colour for a terminal that has it, unless NO_COLOR (no-color.org) asks for none."""
    return Painter(sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb")


def _check_config(options: argparse.Namespace) -> ExitCode:
    config = load_config(options.config)
    mistakes = []
    try:
        print(f"node id: {node_id(config)}")
    except ConfigError as error:
        mistakes.append(str(error))
    credential = next(
        (store / CREDENTIAL_NAME for store in _CREDENTIAL_STORES if (store / CREDENTIAL_NAME).exists()), None
    )
    try:
        path = find_psk_file(config.psk.file, os.environ)
        if credential is not None and not path.exists():
            print(f"pre-shared keys: only systemd can read {credential}, so they are not checked")
        else:
            print(f"pre-shared keys: {len(load_psk(path).accepted)} in {path}")
    except ConfigError as error:
        mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    print(f"{options.config}: ok")
    return ExitCode.OK


def _psk_generate(options: argparse.Namespace) -> ExitCode:
    # A new name every time: the old and the new key stand in one file while they are exchanged.
    identity = f"pskkey-{secrets.token_hex(4)}" if options.identity is None else options.identity
    try:
        line = generate_psk_line(identity)
    except ConfigError as error:
        raise ConfigError(f"--identity: {error}") from None
    if options.output is None:
        print(line)
        return ExitCode.OK
    try:
        descriptor = os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{options.output}: exists already; remove it, or add a line to it by hand") from None
    except OSError as error:
        raise ConfigError(f"{options.output}: cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{line}\n")
    print(f"{options.output}: holds a new key; copy it to every node of the group", file=sys.stderr)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
