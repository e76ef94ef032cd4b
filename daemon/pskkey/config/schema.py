"""The configuration: the keys of `/etc/pskkey.toml`, their defaults, and a sentence for every mistake.

The models below are the file: a class is a table, a field is a key, and its description names the allowed values.
All times are in seconds.
"""

import grp
import hashlib
import hmac
import os
import pwd
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from pskkey.config.bounded_file import read_bounded
from pskkey.config.mistakes import describe, describe_value
from pskkey.config.network_names import find_excluded, find_repeated_address, parse_host_address, parse_interface
from pskkey.errors import ConfigError, without_keys
from pskkey.model import SENDER_IDS, Suite

DEFAULT_CONFIG: Final = Path("/etc/pskkey.toml")
DEFAULT_HANDOFF_GROUP: Final = "pskkey"
"""The one group that need not exist: without it `keys.sock` is for root and the daemon's own user."""
MACHINE_ID: Final = Path("/etc/machine-id")
MAX_CONFIG_SIZE: Final = 65536
MAX_DOTS: Final = 128
"""In one line of the file: tomllib takes quadratic time for a dotted key, and all keys here have two parts."""
MAX_SOCKET_PATH: Final = 107
"""Bytes in the path of a Unix socket: `sun_path` of unix(7) without its final zero."""

MAX_NODE_NAME: Final = 63
"""Bytes of UTF-8."""

_NODE_ID_CONSTANT: Final = b"pskkey node id, version 1"
_SUITE_NAMES: Final = " or ".join(f'"{suite.name}"' for suite in sorted(Suite, reverse=True))
_DAY: Final = 86400

_POSSIBLE_KEY: Final = re.compile(r"[0-9A-Fa-f]{32}")
"""Hex digits of 16 bytes, the shortest PSK. A name is in the adverts, in every status and in the logs of all nodes."""


def _path(value: object, info: ValidationInfo) -> object:
    """Return an absolute path; a relative one counts from the directory of the configuration file."""
    if not isinstance(value, str):
        return value
    if not value or "\0" in value:
        raise ValueError("is not a path")
    return (info.context or Path.cwd()) / value


def _socket_path(path: Path) -> Path:
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        raise ValueError(f"is {size} bytes long as an absolute path, too long for a Unix socket")
    return path


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip() or not 1 <= len(text.encode()) <= MAX_NODE_NAME:
        raise ValueError("is not such a text")
    if _POSSIBLE_KEY.search(text):
        raise ValueError("could be a key, and every node on the network receives this name")
    return text


def _user(name: str) -> str:
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise ValueError("is no user of this machine") from None
    return name


def _group(name: str) -> str:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):
        if name != DEFAULT_HANDOFF_GROUP:
            raise ValueError("is no group of this machine") from None
    return name


def _suite(value: object) -> Suite:
    if isinstance(value, Suite):
        return value
    if not isinstance(value, str) or value not in Suite.__members__:
        raise ValueError("is not one of them")
    return Suite[value]


type _Text = Annotated[str, AfterValidator(_printable)]
type _Seconds = Annotated[float, Field(allow_inf_nan=False)]
type _FilePath = Annotated[Path, BeforeValidator(_path)]
type _SocketPath = Annotated[_FilePath, AfterValidator(_socket_path)]
type _Interfaces = Annotated[tuple[Annotated[str, AfterValidator(parse_interface)], ...], Field(strict=False)]
type _Addresses = Annotated[tuple[Annotated[str, AfterValidator(parse_host_address)], ...], Field(strict=False)]
type _Users = Annotated[tuple[Annotated[str, AfterValidator(_user)], ...], Field(strict=False)]
type _Groups = Annotated[tuple[Annotated[str, AfterValidator(_group)], ...], Field(strict=False)]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", defer_build=True, frozen=True)


class GroupTable(_Table):
    """`[group]`: the group of this node."""

    name: _Text = Field(default="default", description="1 to 63 bytes of printable text")


class NodeTable(_Table):
    """`[node]`: this node in its group. `id` and `name` are None when they come from the machine."""

    id: str | None = Field(default=None, pattern=r"\A[0-9a-f]{8,32}\z", description="8 to 32 lowercase hex digits")
    name: _Text | None = Field(default=None, description="1 to 63 bytes of printable text")
    priority: int = Field(default=100, ge=0, le=255, description="a whole number from 0 to 255")
    eligible: bool = Field(default=True, description="true or false")
    sender_id: int | None = Field(default=None, ge=0, lt=SENDER_IDS, description="a whole number from 0 to 255")


class NetworkTable(_Table):
    """`[network]`: where the node is found and where it listens. Without interfaces or addresses: on all."""

    interfaces: _Interfaces = Field(default=(), description="a list of interface names and IP addresses")
    ip: Literal["both", "v4", "v6"] = Field(default="both", description='"both", "v4" or "v6"')
    port: int = Field(default=11111, ge=1, le=65535, description="a whole number from 1 to 65535")
    addresses: _Addresses = Field(
        default=(), max_length=8, description="a list of at most 8 IP addresses of this machine"
    )

    @field_validator("addresses")
    @classmethod
    def _check_addresses(cls, addresses: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        ip = info.data.get("ip", "both")
        if (excluded := find_excluded(addresses, ip)) is not None:
            raise ValueError(f'has {excluded} although ip = "{ip}"')
        if (repeated := find_repeated_address(addresses)) is not None:
            raise ValueError(f"has {repeated} twice")
        return addresses


class PskTable(_Table):
    """`[psk]`: where the pre-shared keys are."""

    file: _FilePath = Field(default=Path("/etc/pskkey.psk"), description="the path of a file")


class TlsTable(_Table):
    """`[tls]`: what the key server accepts beyond the safe minimum, and whether it serves clients that do not join."""

    legacy_clients: bool = Field(default=False, description="true or false")
    key_requests: bool = Field(default=True, description="true or false")


class ElectionTable(_Table):
    """`[election]`: how soon a master is found, missed and replaced."""

    discovery_window: _Seconds = Field(default=1.0, ge=0.05, le=60, description="seconds from 0.05 to 60")
    claim_step: _Seconds = Field(default=0.3, ge=0.01, le=10, description="seconds from 0.01 to 10")
    heartbeat_interval: _Seconds = Field(default=0.5, ge=0.05, le=60, description="seconds from 0.05 to 60")
    dead_after: _Seconds = Field(
        default=1.5,
        ge=0.1,
        le=300,
        validate_default=True,
        description="seconds from 0.1 to 300, at least twice heartbeat_interval",
    )
    preempt: bool = Field(default=False, description="true or false")

    @field_validator("dead_after")
    @classmethod
    def _check_dead_after(cls, dead_after: float, info: ValidationInfo) -> float:
        interval: float = info.data.get("heartbeat_interval", 0.0)
        if dead_after < 2 * interval:
            raise ValueError(f"is less than twice heartbeat_interval = {interval:g}")
        return dead_after


class KeyTable(_Table):
    """`[key]`: the group key. `rekey_interval` 0 means that only operators and events renew it.

    With `expires_after` 0 it never expires.
    """

    suite: Annotated[Suite, BeforeValidator(_suite)] = Field(
        default=Suite.PSK_CHACHA20_POLY1305, description=_SUITE_NAMES
    )
    rekey_interval: _Seconds = Field(
        default=float(_DAY), ge=0, le=366 * _DAY, description=f"0 for never, or seconds from 10 to {366 * _DAY}"
    )
    rekey_on_leave: bool = Field(default=False, description="true or false")
    expires_after: _Seconds = Field(
        default=0.0, ge=0, le=366 * _DAY, description=f"0 for never, or seconds from 1 to {366 * _DAY}"
    )
    activation_deadline: _Seconds = Field(default=5.0, ge=0.1, le=300, description="seconds from 0.1 to 300")
    retire_after: _Seconds = Field(default=10.0, ge=0.1, le=3600, description="seconds from 0.1 to 3600")

    @field_validator("rekey_interval")
    @classmethod
    def _check_rekey_interval(cls, interval: float) -> float:
        if 0 < interval < 10:
            raise ValueError("is too often")
        return interval

    @field_validator("expires_after")
    @classmethod
    def _check_expires_after(cls, seconds: float) -> float:
        if 0 < seconds < 1:
            raise ValueError("is too soon")
        return seconds


class HandoffTable(_Table):
    """`[handoff]`: the users that may fetch keys on `keys.sock`, besides root and the daemon's own user."""

    socket: _SocketPath = Field(default=Path("/run/pskkey/keys.sock"), description="a path of at most 107 bytes")
    users: _Users = Field(default=(), description="a list of names of users of this machine")
    groups: _Groups = Field(default=(DEFAULT_HANDOFF_GROUP,), description="a list of names of groups of this machine")


class ControlTable(_Table):
    """`[control]`: the users that may give commands on `control.sock`, besides root and the daemon's own user."""

    socket: _SocketPath = Field(default=Path("/run/pskkey/control.sock"), description="a path of at most 107 bytes")
    users: _Users = Field(default=(), description="a list of names of users of this machine")
    groups: _Groups = Field(default=(), description="a list of names of groups of this machine")


class LimitsTable(_Table):
    """`[limits]`: the greatest load of the key server."""

    connections: int = Field(default=1280, ge=1, le=65536, description="a whole number from 1 to 65536")
    connections_per_address: int = Field(default=64, ge=1, le=65536, description="a whole number from 1 to 65536")
    handshakes: int = Field(default=128, ge=1, le=65536, description="a whole number from 1 to 65536")
    handshake_timeout: _Seconds = Field(default=5.0, ge=0.1, le=60, description="seconds from 0.1 to 60")
    members: int = Field(default=1024, ge=2, le=4096, description="a whole number from 2 to 4096")


class LogTable(_Table):
    """`[log]`: the least severe records that the daemon logs."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description='"debug", "info", "warning" or "error"'
    )


class Config(_Table):
    """The whole file. Every table and every key has a default, so an empty file is a configuration."""

    group: GroupTable = GroupTable.model_construct()
    node: NodeTable = NodeTable.model_construct()
    network: NetworkTable = NetworkTable.model_construct()
    psk: PskTable = PskTable.model_construct()
    tls: TlsTable = TlsTable.model_construct()
    election: ElectionTable = ElectionTable.model_construct()
    key: KeyTable = KeyTable.model_construct()
    handoff: HandoffTable = HandoffTable.model_construct()
    control: ControlTable = ControlTable.model_construct()
    limits: LimitsTable = LimitsTable.model_construct()
    log: LogTable = LogTable.model_construct()

    @classmethod
    def parse(cls, text: str, source: Path) -> Self:
        """Read TOML. `source` names the file in errors, and relative paths count from its directory.

        Raises ConfigError with one sentence, on a line of its own, for every mistake. A default counts like a value.
        """
        named = without_keys(source)
        for number, line in enumerate(text.split("\n"), start=1):
            if line.count(".") > MAX_DOTS and not line.lstrip().startswith("#"):
                raise ConfigError(f"{named}: too many dots (at line {number}); allowed: at most {MAX_DOTS} in one line")
        try:
            tables = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigError(
                f"{named}: not TOML: {without_keys(error)}; allowed: tables of keys, as in https://toml.io"
            ) from None
        except ValueError:  # bare: int() takes no more decimal digits than sys.get_int_max_str_digits()
            raise ConfigError(f"{named}: a number is far too long; allowed: numbers as in https://toml.io") from None
        try:
            config = cls.model_validate(tables, context=source.absolute().parent)
        except ValidationError as error:
            # Without the cause, which repeats every value: a key in the wrong file would be one of them.
            raise ConfigError("\n".join(f"{named}: {mistake}" for mistake in describe(error, cls))) from None
        if mistakes := list(config._shared_paths(source)):
            raise ConfigError("\n".join(f"{named}: {mistake}" for mistake in mistakes))
        return config

    def _shared_paths(self, source: Path) -> Iterator[str]:
        """Yield a sentence for each path that two files of the daemon have, in the file or by default.

        The links on this machine count: `/var/run` and `/run` are often one directory.
        """
        owners = {os.path.realpath(source): "the configuration file"}
        for table, key in (("psk", "file"), ("handoff", "socket"), ("control", "socket")):
            path: Path = getattr(getattr(self, table), key)
            owner = owners.setdefault(os.path.realpath(path), f"[{table}] {key}")
            if owner != f"[{table}] {key}":
                yield describe_value(type(self), table, key, str(path), f"is also the path of {owner}")


def load_config(path: Path) -> Config:
    """Read a configuration file. Raises ConfigError with `FILE: [table] key: what is wrong; allowed: ...` lines."""
    named = without_keys(path)
    try:
        data, _ = read_bounded(path, MAX_CONFIG_SIZE)
    except OSError as error:
        raise ConfigError(f"{named}: cannot be read: {error.strerror}; allowed: a readable TOML file") from None
    if len(data) > MAX_CONFIG_SIZE:
        raise ConfigError(f"{named}: is too large; allowed: at most {MAX_CONFIG_SIZE} bytes of TOML")
    try:
        text = data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{named}: not UTF-8 (at line {line}); allowed: TOML, which is UTF-8 text") from None
    return Config.parse(text, path)


def node_id(config: Config, machine_id: Path = MACHINE_ID) -> str:
    """Return the configured node id, or 32 hex digits derived from the machine id.

    As machine-id(5) asks, the machine id itself stays private: the node id is the first 16 bytes of HMAC-SHA256, keyed
    by the machine id, over a constant of this application. Raises ConfigError when there is no machine id.
    """
    if config.node.id is not None:
        return config.node.id
    try:
        text = machine_id.read_text("ascii").strip()
        key = bytes.fromhex(text) if len(text) == 32 else b""
    except (OSError, ValueError):
        key = b""
    if len(key) != 16 or not any(key):
        raise ConfigError(
            f"{machine_id}: holds no machine id to derive the node id from; create one with systemd-machine-id-setup, "
            "or set id in table [node] of the configuration; allowed: 8 to 32 lowercase hex digits"
        )
    return hmac.new(key, _NODE_ID_CONSTANT, hashlib.sha256).hexdigest()[:32]


def node_name(config: Config) -> str:
    """Return the configured node name, or the host name, cut at a character within 63 bytes.

    A character of the host name that cannot be shown, or that is not UTF-8, is replaced by a question mark. A host name
    that is not allowed as a configured name is not used.
    """
    if config.node.name is not None:
        return config.node.name
    host = os.fsencode(socket.gethostname()).decode("utf-8", "replace")
    shown = "".join(letter if letter.isprintable() and letter != "\ufffd" else "?" for letter in host)
    name = shown.encode()[:MAX_NODE_NAME].decode("utf-8", "ignore").strip()
    try:
        return _printable(name if name.strip("? ") else "")
    except ValueError:
        return "unnamed"
