"""pskkey-client: fetch the group key from a key server and show its fingerprint, or store it."""

import argparse
import os
import secrets
import stat
import sys
from pathlib import Path

from pskkey import __version__, arguments, program
from pskkey.errors import BadPacket, ConfigError, HandshakeError, NoAnswer, PeerError, PskkeyError, Unreachable
from pskkey.keyserver.api import DEFAULT_PORT, KeyClient
from pskkey.model import KeyResponse
from pskkey.wire.frame import VERSION, PacketType
from pskkey.wire.keymsg import decode_key_response_untrusted, encode_key_response

_EXIT_CODES: tuple[tuple[type[PskkeyError], int], ...] = (
    (ConfigError, 2),
    (NoAnswer, 5),
    (Unreachable, 3),
    (HandshakeError, 4),
    (PeerError, 4),
)


def main() -> int:
    """Send one request; return the exit code."""
    return program.run("pskkey-client", _ask)


def _ask() -> int:
    options = _parser().parse_args()
    try:
        client = KeyClient(
            options.psk_file, options.identity, options.port, options.timeout, options.bind, options.legacy_server
        )
        print(f"Request: Version {VERSION}, Cmd {PacketType.KEY_REQ:d}, Size 0", flush=True)
        answer = client.get(options.host, PacketType.KEY_REQ)
        print(f"Response: Version {VERSION}, Cmd {PacketType.KEY_REQ:d}, Size {len(answer)}")
        key = decode_key_response_untrusted(answer).key
        if options.output is not None:
            _store(options.output, encode_key_response(KeyResponse(key)))
        print(f"Fingerprint: {key.fingerprint}", flush=True)
    except BadPacket as error:
        print(f"pskkey-client: {options.host}, port {options.port}: {error}", file=sys.stderr)
        return 1
    except PskkeyError as error:
        print(f"pskkey-client: {error}", file=sys.stderr)
        return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)
    except OSError as error:
        print(f"pskkey-client: {error.filename or options.output}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _store(path: Path, content: bytes) -> None:
    """Write a file that only our user can read, whole or not at all. Raises OSError or ConfigError."""
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise ConfigError(f"{path}: is not a regular file, so the key is not written to it")
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pskkey-client",
        description="Fetch the group key from a key server. The key itself is never printed.",
        epilog="Exit codes: 0 ok, 1 error, 2 usage or configuration, 3 unreachable, 4 denied, 5 no answer in time.",
    )
    parser.add_argument("host", metavar="HOST", help="host name or IP address of the key server")
    parser.add_argument("--psk-file", required=True, metavar="FILE", help="lines 'identity:hexkey', mode 0600")
    parser.add_argument("--identity", metavar="NAME", help="use this identity of the file (its first line)")
    parser.add_argument("--bind", metavar="ADDRESS", help="local IP address to connect from")
    parser.add_argument("--port", type=arguments.integer(1, 65535), default=DEFAULT_PORT, help="TCP port (%(default)s)")
    parser.add_argument(
        "--timeout", type=arguments.seconds(3600), default=5.0, help="seconds for the whole request (%(default)s)"
    )
    parser.add_argument(
        "--legacy-server",
        action="store_true",
        help="speak TLS 1.2 with a plain PSK, as older C key servers do; this has no forward secrecy",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="store the key there with mode 0600: pms[64] server_random[32] client_random[32], 128 bytes",
    )
    parser.add_argument("--version", action="version", version=f"pskkey-client {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
