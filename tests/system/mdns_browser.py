"""An independent browser of mDNS announcements."""

import asyncio
import time
from types import TracebackType
from typing import Self

from zeroconf import DNSQuestionType, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from pskkey.wire.advert import SERVICE_TYPE


class Browser:
    """Browses our service type; `present` has the announced instance names without a goodbye."""

    def __init__(self, interface: str) -> None:
        self.present: set[str] = set()
        self._zeroconf = AsyncZeroconf(interfaces=[interface])
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE_TYPE, handlers=[self._changed], question_type=DNSQuestionType.QM
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._browser.async_cancel()
        await self._zeroconf.async_close()

    async def until(self, name: str, *, present: bool, within: float) -> None:
        """Wait until an instance is there, or is not. Raises TimeoutError."""
        deadline = time.monotonic() + within
        while (name in self.present) is not present:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is {'not ' if present else 'still '}there; there are {self.present}")
            await asyncio.sleep(0.02)

    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        del zeroconf, service_type
        if state_change is ServiceStateChange.Removed:
            self.present.discard(name)
        else:
            self.present.add(name)
