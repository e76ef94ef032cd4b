"""pskkey-server: a key server for tests and small installations, without a group behind it."""

import argparse
import logging
import signal
import sys

from pskkey.api import DEFAULT_PORT, KeyServer
from pskkey.errors import ConfigError

EXIT_CONFIG = 2
_log = logging.getLogger("pskkey.server")


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code (0, or 2 for usage and configuration)."""
    options = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        server = KeyServer(
            options.psk_file,
            bind=options.bind,
            port=options.port,
            legacy_clients=options.legacy_clients,
            on_event=_print,
            identity=options.identity,
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: server.stop())
        server.run()
    except ConfigError as error:
        print(f"pskkey-server: {error}", file=sys.stderr)
        return EXIT_CONFIG
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pskkey-server",
        description="Give one random group key to every client that holds a PSK of the file.",
        epilog="Exit codes: 0 stopped by a signal, 2 usage or configuration.",
    )
    parser.add_argument("--psk-file", required=True, metavar="FILE", help="lines 'identity:hexkey', mode 0600")
    parser.add_argument("--identity", metavar="NAME", help="let only this identity of the file in")
    parser.add_argument(
        "--bind", action="append", default=[], metavar="ADDRESS", help="IP address to listen on (several times; all)"
    )
    parser.add_argument("--port", type=port_number, default=DEFAULT_PORT, help="TCP port (%(default)s)")
    parser.add_argument(
        "--legacy-clients", action="store_true", help="also take plain-PSK TLS 1.2 suites of older C clients"
    )
    return parser


def port_number(text: str) -> int:
    """Read a TCP port from the command line."""
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {text!r}")
    return port


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except OSError as error:  # nobody reads us any more; clients still want their key
        _log.debug("A line could not be printed: %s", error)


if __name__ == "__main__":
    sys.exit(main())
