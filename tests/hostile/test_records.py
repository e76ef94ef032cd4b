"""A stranger records multicast DTLS and sends it again to a session manager that was restarted."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.hostile.multicast_peer import GROUP, PORT
from tests.hostile.recorder import Recorder, at
from tests.lab.daemon import Daemon, environment
from tests.lab.laboratory import laboratory
from tests.lab.namespaces import Host
from tests.quality.tracked import ROOT

TALK: Final = 0.7
"""Seconds in which messages are sent."""
FEW: Final = 5
"""The least number of messages that are sent and heard in that time."""
SETTLED_WITHIN: Final = 15.0

pytestmark = [pytest.mark.root, pytest.mark.slow]


@contextmanager
def peer(role: str, daemon: Daemon, host: Host) -> Iterator[subprocess.Popen[str]]:
    """Start a session manager, wait until it is ready, and kill it at the end."""
    command = [*host.command, sys.executable, "-m", "tests.hostile.multicast_peer", role, str(daemon.keys_socket)]
    with subprocess.Popen(
        [*command, host.ipv4], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def count_of(process: subprocess.Popen[str]) -> int:
    """End a session manager and return the number of messages that it has counted."""
    printed, _ = process.communicate(timeout=10)
    return int(printed)


async def test_a_restarted_receiver_accepts_no_recorded_datagram() -> None:
    with laboratory(1) as lab:
        group = lab.group(2)
        attacker = lab.hosts.add_host()
        sending, receiving = zip(group.daemons, lab.hosts.hosts, strict=False)
        try:
            group.start()
            await group.together(SETTLED_WITHIN)
            with Recorder(attacker, GROUP, PORT) as recorder:
                with peer("receive", *receiving) as receiver, peer("send", *sending) as sender:
                    await asyncio.sleep(TALK)
                    assert count_of(sender) >= FEW
                    assert count_of(receiver) >= FEW
                recorded = recorder.datagrams()
            assert len(recorded) >= FEW
            with peer("receive", *receiving) as receiver:
                with at(attacker), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as replayer:
                    replayer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(attacker.ipv4))
                    for datagram in recorded:
                        replayer.sendto(datagram, (GROUP, PORT))
                await asyncio.sleep(TALK)
                assert count_of(receiver) == 0
        finally:
            group.destroy()
