"""A stranger without a key records multicast DTLS, and replays it to a restarted session manager."""

import asyncio
from collections.abc import Sequence

from pskkey.mcast import JoinedGroup, MulticastEndpoint, join
from tests.system.loopback import MULTICAST_INTERFACE, Loopback
from tests.system.pskkeyctl_process import run

GROUP = "239.255.77.7"


async def receive(group: JoinedGroup, count: int) -> list[bytes]:
    async with asyncio.timeout(5):
        return [(await group.receive()).plaintext for _ in range(count)]


async def wait_for_common_key(sender: JoinedGroup, receiver: JoinedGroup) -> None:
    """Wait until the sender uses a key that the receiver has. The daemon notifies one of them before the other."""
    for _ in range(500):
        if sender.send_epoch in receiver.epochs:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_restarted_receiver_accepts_no_record_from_before_its_restart(
    loopback: Loopback, unused_udp_port: int
) -> None:
    """The daemon and the sender run on. Until the rekey the key is the same as before the restart."""
    daemon = loopback.daemon("n0")
    daemon.start()
    assert (await run(daemon, "wait", "--synced"))[0] == 0
    keys = daemon.keys_socket
    recorded: list[bytes] = []

    def record(datagrams: Sequence[bytes]) -> None:
        recorded.extend(datagrams)

    with MulticastEndpoint(GROUP, unused_udp_port, record, interface=MULTICAST_INTERFACE) as stranger:
        async with join(GROUP, unused_udp_port, interface=MULTICAST_INTERFACE, path=keys) as sender:
            await asyncio.wait_for(sender.ready(), 5)
            valves = [b"open valve %d" % n for n in range(5)]
            for is_restarted in (False, True):
                async with join(
                    GROUP, unused_udp_port, interface=MULTICAST_INTERFACE, path=keys, will_send=False
                ) as receiver:
                    before = list(recorded)
                    assert bool(before) is is_restarted
                    for datagram in before:
                        stranger.send(datagram)
                    await asyncio.wait_for(receiver.ready(), 5)
                    await wait_for_common_key(sender, receiver)
                    for datagram in before:
                        stranger.send(datagram)
                    for valve in valves:
                        sender.send(valve)
                    assert await receive(receiver, len(valves)) == valves
                    assert receiver.counters["received"] == len(valves)
                    assert receiver.counters["earlier_key"] == 2 * len(before)
