"""Sees every TXT record of a service type as it arrives, also one that only refreshes what is known.

A service browser tells of a TXT record only when its cache does not hold the same one, and the cache keeps a record
that was replaced for a second. What changes back within that time (RFC 6762 section 10.2) would never be told.
"""

from collections.abc import Callable

# DNSText is public too, though not in __all__.
from zeroconf import DNSText, RecordUpdate, RecordUpdateListener, Zeroconf  # type: ignore[attr-defined]


class TextRecords(RecordUpdateListener):
    """Passes the name and the text of each TXT record below `service_type` to `take`, which must not raise."""

    def __init__(self, service_type: str, take: Callable[[str, bytes], None]) -> None:
        self._suffix = f".{service_type}"
        self._take = take

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:  # noqa: ARG002
        """Look at the records of one packet, or at those that have just expired. Called by python-zeroconf."""
        for update in records:
            record = update.new
            if isinstance(record, DNSText) and record.name.endswith(self._suffix) and not record.is_expired(now):
                self._take(record.name, record.text)
