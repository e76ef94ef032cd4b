"""pskkey-server: a key server for tests and small installations, without a group behind it."""

import argparse
import logging
import signal
import sys

from pskkey import __version__, arguments, program
from pskkey.errors import ConfigError
from pskkey.keyserver.api import DEFAULT_PORT, KeyServer

EXIT_CONFIG = 2


def main() -> int:
    """Serve until SIGINT or SIGTERM; return the exit code (0, 1 for output, or 2 for usage and configuration)."""
    return program.run("pskkey-server", _serve)


def _serve() -> int:
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
    parser.add_argument("--identity", metavar="NAME", help="accept only this identity of the file")
    parser.add_argument(
        "--bind", action="append", default=[], metavar="ADDRESS", help="IP address to listen on (several times; all)"
    )
    parser.add_argument("--port", type=arguments.integer(0, 65535), default=DEFAULT_PORT, help="TCP port (%(default)s)")
    parser.add_argument(
        "--legacy-clients", action="store_true", help="also accept plain-PSK TLS 1.2 suites of older C clients"
    )
    parser.add_argument("--version", action="version", version=f"pskkey-server {__version__}")
    return parser


def _print(line: str) -> None:
    try:
        print(line, flush=True)
    except program.OutputFailed as error:  # nobody reads our output any more, but clients still need their key
        program.discard_output()
        print(f"pskkey-server: {error}; the server continues", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
