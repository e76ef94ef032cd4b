"""The daemon's view of the network as values: the result of GetNetwork, checked field by field."""

from typing import Any, Final, NamedTuple, Self

from pskkey.errors import BadPacket
from pskkey.tools.ctl.typed_json import read_untrusted

SCHEMA: Final = 1


class HeardStatus(NamedTuple):
    """An advert of the last minute. `kind` is ours, other_group or other_psk; `age_s` is in seconds."""

    kind: str
    name: str
    id: str | None
    group: str
    source: str
    age_s: float


class PeerStatus(NamedTuple):
    """Another node of the group, and where it can be reached."""

    id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    is_member: bool


class NetworkStatus(NamedTuple):
    """The result of GetNetwork, in schema 1, with its field names. Unknown fields, of a later daemon, are skipped."""

    interfaces: tuple[str, ...]
    ip: str
    port: int
    addresses: tuple[str, ...]
    peers: tuple[PeerStatus, ...]
    peers_left_out: int
    heard: tuple[HeardStatus, ...]

    @classmethod
    def parse_untrusted(cls, parameters: dict[str, Any]) -> Self:
        """Read the parameters of a reply. Raises BadPacket."""
        if parameters.get("schema") != SCHEMA:
            raise BadPacket("the daemon's network has another version; use the pskkeyctl that came with the daemon")
        try:
            return read_untrusted(cls, parameters)
        except BadPacket as error:
            raise BadPacket(f"the daemon sent a malformed network: {error}") from None
