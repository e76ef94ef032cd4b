"""The daemon's key server in a process of its own, so that its memory can be measured.

It listens on a free port of 127.0.0.1 and prints it. It answers each JOIN with a large GROUP.
"""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.config.psk import load_psk
from pskkey.core.events import Event, Received
from pskkey.model import Group, Join, Member
from tests.adapters.tls.ends import NODE

MEMBERS = tuple(Member(f"{number:032x}", "n" * 60, (f"10.0.{number // 256}.1",), 1) for number in range(1000))
GROUP = Group(3, MEMBERS[0].id, MEMBERS, tuple(member.id for member in MEMBERS))


async def main(psk_path: Path) -> None:
    psk = load_psk(psk_path)

    def answer(event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.message, Join):
            server.send(event.session, GROUP)

    limits = ServerLimits(connections_per_address=512, silence=600.0)
    server = InboundSessions(NODE.id, lambda: psk, False, limits, answer, Counter())
    await server.start(["127.0.0.1"], 0)
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
