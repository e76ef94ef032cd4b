"""The service, the configuration and the control socket of `pskkeyd`, and of an instance `pskkeyd@NAME`.

systemd makes the sockets of these services, at the places here, whatever the configuration names. A daemon that
somebody starts otherwise listens where its configuration names it.
"""

from pathlib import Path
from typing import Final

from pskkey.config.schema import DEFAULT_CONFIG
from pskkey.tools.ctl.control_client import DEFAULT_SOCKET

INSTANCES: Final = Path("/etc/pskkey")
"""The directory of the configurations of pskkeyd@.service, one for each of several groups."""

_SOCKETS: Final = DEFAULT_SOCKET.parent


def service_of(config: Path) -> str | None:
    """Return the service that runs with this configuration; None for a service that is not of this package."""
    if config.parent == INSTANCES:
        return f"pskkeyd@{config.stem}"
    return "pskkeyd" if config == DEFAULT_CONFIG else None


def config_of(socket: Path) -> Path | None:
    """Return the configuration of the service with this control socket; None for another socket."""
    if socket == DEFAULT_SOCKET:
        return DEFAULT_CONFIG
    if socket.name == DEFAULT_SOCKET.name and socket.parent.parent == _SOCKETS:
        return INSTANCES / f"{socket.parent.name}.toml"
    return None


def socket_of(config: Path) -> Path | None:
    """Return the control socket of the service with this configuration; None for another configuration."""
    if config.parent == INSTANCES and config.suffix == ".toml":
        return _SOCKETS / config.stem / DEFAULT_SOCKET.name
    return DEFAULT_SOCKET if config == DEFAULT_CONFIG else None
