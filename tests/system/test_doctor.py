"""`pskkeyctl doctor` beside real daemons, each on a host of its own. Needs root."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from pskkey.config.psk import generate_psk_line, load_psk
from pskkey.tools.ctl.doctor_echo import EchoSockets
from pskkey.tools.ctl.doctor_probes import AT_ONCE, BEGIN_WITHIN, PROBE_WITHIN, Answer, probe_peers
from pskkey.tools.ctl.network_reading import PeerStatus
from tests.lab.daemon import Daemon
from tests.lab.group import Group
from tests.lab.namespaces import INTERFACE, Host, Switch, switch
from tests.system.doctoring import Finding, doctor, faults, texts
from tests.system.loopback import Loopback
from tests.system.ordinary_user import as_ordinary_user
from tests.system.private_network import configure, private_network, source
from tests.system.starting import in_order

pytestmark = pytest.mark.root

NO_NAMES: Final[dict[str, object]] = {"interfaces": [], "addresses": []}

DROP: Final = (
    "add table inet doctor",
    "add chain inet doctor input { type filter hook input priority 0; }",
    "add rule inet doctor input tcp dport 11111 drop",
)


@pytest.fixture
async def hosts() -> AsyncIterator[Switch]:
    """A switch with three hosts."""
    with switch(3) as made:
        yield made


def daemon_on(loopback: Loopback, host: Host, network: dict[str, object] | None = None, **tables: Any) -> Daemon:
    """Return a daemon on a host, which uses all its interfaces and addresses. It is not started.

    Its times are long, so that it does not report a machine that is busy with other tests as a trouble.
    """
    name = f"n{len(loopback.daemons) + 1}"
    own = {"network": NO_NAMES | (network or {}), "election": {"dead_after": 30}, **tables}
    return loopback.daemon(name, own, host.command)


def shown(daemon: Daemon) -> str:
    return f"{daemon.name} ({daemon.id[:8]})"


async def doctor_beside(daemon: Daemon, program: str) -> tuple[list[Finding], int]:
    """Run it beside a Python program that holds ports, prints a line and waits. Return the findings and its pid."""
    holder = await asyncio.create_subprocess_exec(
        *daemon.prefix, "python3", "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        await holder.stdout.readline()
        _, found = await doctor(daemon)
    finally:
        holder.kill()
        await holder.wait()
    return found, holder.pid


async def test_group_that_is_well_has_no_fault(loopback: Loopback, hosts: Switch) -> None:
    daemons = [daemon_on(loopback, host) for host in hosts.hosts]
    await in_order(daemons)
    for daemon, host in zip(daemons, hosts.hosts, strict=True):
        code, found = await doctor(daemon)
        assert (code, faults(found)) == (0, [])
        answers = texts(found, "node", ok=True)
        for other, its in zip(daemons, hosts.hosts, strict=True):
            for address in (its.ipv4, its.ipv6):
                sentence = f"{shown(other)} answers at {address} port 11111, connected in "
                assert any(text.startswith(sentence) for text in answers) is (other is not daemon)
        assert len(texts(found, "path", ok=True)) == 2
        assert all(text.startswith("packets of 1500 bytes get through to ") for text in texts(found, "path", ok=True))
        assert texts(found, "heard", ok=True)
        assert texts(found, "interface", ok=True)[0] == "lo is not used: it is loopback"
        assert texts(found, "interface", ok=True)[1].startswith(
            f"{INTERFACE} is used: mDNS from {host.ipv4} and fe80::"
        )
    await Group(daemons).stay_together(0.5)  # the probes have ended no session


@pytest.mark.parametrize("has_another", [False, True])
async def test_address_at_which_another_node_answers_names_that_node(
    loopback: Loopback, hosts: Switch, has_another: bool
) -> None:
    """A node with the address of another one in a network of its own, as for containers."""
    taken = hosts.hosts[2].ipv4
    hosts.hosts[1].run("ip", "address", "add", f"{taken}/32", "dev", "lo")
    hosts.hosts[1].run("sysctl", "-q", f"net.ipv4.conf.{INTERFACE}.arp_ignore=1")
    own = [hosts.hosts[1].ipv4] if has_another else []
    daemons = [
        daemon_on(loopback, hosts.hosts[0]),
        daemon_on(loopback, hosts.hosts[1], {"addresses": [taken, *own]}),
        daemon_on(loopback, hosts.hosts[2]),
    ]
    await in_order(daemons)
    code, found = await doctor(daemons[0])
    sentence = f"{shown(daemons[1])} announces {taken} port 11111, but {shown(daemons[2])} answers there"
    if has_another:
        assert (code, faults(found)) == (0, [])
        sentence += f"; that does no harm, because it answers at {own[0]}"
    else:
        assert code == 1
    assert sentence in texts(found, "node", ok=has_another)


async def test_filtered_key_server_is_a_fault_of_each_address(loopback: Loopback, hosts: Switch) -> None:
    daemons = [daemon_on(loopback, host) for host in hosts.hosts[:2]]
    for line in DROP:
        hosts.hosts[1].run("nft", *line.split())
    await in_order(daemons)
    code, found = await doctor(daemons[0])
    assert code == 1
    expected = {f"{shown(daemons[1])} does not answer at {address} port 11111 within 2 s"
                for address in (hosts.hosts[1].ipv4, hosts.hosts[1].ipv6)}  # fmt: skip
    assert expected <= set(texts(found, "node", ok=False))
    assert all(one["check"] == "node" for one in found if not one["ok"])


async def test_port_that_a_firewall_refuses_has_a_remedy_for_the_firewall_too(
    loopback: Loopback, hosts: Switch
) -> None:
    daemons = [daemon_on(loopback, host) for host in hosts.hosts[:2]]
    for line in (*DROP[:2], DROP[2].replace("drop", "reject with tcp reset")):
        hosts.hosts[1].run("nft", *line.split())
    await in_order(daemons)
    _, found = await doctor(daemons[0])
    refused = f"{shown(daemons[1])} announces {hosts.hosts[1].ipv4} port 11111, but no program listens there"
    (finding,) = [one for one in found if one["text"].startswith(refused)]
    assert "start pskkeyd there" in finding["remedy"]
    assert "the firewall there, which may refuse it" in finding["remedy"]


async def test_server_whose_answer_does_not_arrive_has_a_remedy_for_large_packets(
    loopback: Loopback, hosts: Switch
) -> None:
    """The path drops the answer of the server: a connection is made, and the handshake does not end."""
    daemons = [daemon_on(loopback, host) for host in hosts.hosts[:2]]
    rule = (DROP[0], DROP[1], "add rule inet doctor input tcp sport 11111 meta length > 120 drop")
    await in_order(daemons)
    for line in rule:
        hosts.hosts[0].run("nft", *line.split())
    _, found = await doctor(daemons[0])
    silent = f"{shown(daemons[1])} accepts the connection at {hosts.hosts[1].ipv4} port 11111, and then sends nothing"
    (finding,) = [one for one in found if one["text"].startswith(silent)]
    assert "let large packets through" in finding["remedy"]


async def test_narrow_path_is_a_fault_with_the_largest_packet(loopback: Loopback, hosts: Switch) -> None:
    for host in hosts.hosts:
        host.run("ip", "link", "set", INTERFACE, "gso_max_segs", "1")
    hosts.run("ip", "link", "set", hosts.hosts[1].port, "mtu", "1280")
    daemons = [daemon_on(loopback, host) for host in hosts.hosts]
    await in_order(daemons)
    code, found = await doctor(daemons[0])
    narrow = f"{shown(daemons[1])} at {hosts.hosts[1].ipv4}"
    assert (code, faults(found)) == (1, [f"large packets do not get through to {narrow}: at most 1280 bytes of 1500"])
    wide = f"{shown(daemons[2])} at {hosts.hosts[2].ipv4}"
    assert texts(found, "path", ok=True) == [f"packets of 1500 bytes get through to {wide}"]


@pytest.mark.parametrize(
    ("mtu", "arrived", "remedy"),
    [
        (1280, 1280, "set the MTU of the interfaces to 1280 on all nodes, or let larger packets through"),
        (800, 576, "let larger packets through the network"),  # an interface with such an MTU has no IPv6
    ],
)
async def test_router_that_would_cut_packets_is_a_narrow_path_too(
    loopback: Loopback, hosts: Switch, mtu: int, arrived: int, remedy: str
) -> None:
    """The router cuts a packet only if its sender allows that."""
    ours, router, behind = hosts.hosts
    router.run("sysctl", "-q", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0")
    router.run("ip", "route", "add", "10.84.0.2", "via", behind.ipv4, "mtu", "lock", str(mtu))
    behind.run("ip", "address", "add", "10.84.0.2/32", "dev", "lo")
    ours.run("ip", "route", "add", "10.84.0.2", "via", router.ipv4)
    daemons = [daemon_on(loopback, ours), daemon_on(loopback, behind, {"addresses": ["10.84.0.2"]})]
    await in_order(daemons)
    code, found = await doctor(daemons[0])
    sentence = f"large packets do not get through to {shown(daemons[1])} at 10.84.0.2: at most {arrived} bytes of 1500"
    assert (code, faults(found)) == (1, [sentence])
    assert [one["remedy"].startswith(remedy) for one in found if not one["ok"]] == [True]


async def test_node_with_another_psk_and_a_node_of_another_group_are_named(loopback: Loopback, hosts: Switch) -> None:
    other_psk = loopback.directory / "other-psk"
    other_psk.touch(0o600)
    other_psk.write_text(generate_psk_line("group") + "\n")
    daemons = [
        daemon_on(loopback, hosts.hosts[0]),
        daemon_on(loopback, hosts.hosts[1], psk={"file": str(other_psk)}),
        daemon_on(loopback, hosts.hosts[2], group={"name": "elsewhere"}),
    ]
    for daemon in daemons:
        daemon.start()
        await Group([daemon]).together(20)
    code, found = await doctor(daemons[0])
    assert code == 1
    alone, wrong = texts(found, "heard", ok=False)
    assert alone == f'no other node of group "{loopback.group}" was heard in the last minute'
    assert wrong.startswith("n2 at ")
    assert wrong.endswith(f' announces our group "{loopback.group}", but with another PSK')
    (elsewhere,) = texts(found, "heard", ok=True)
    assert elsewhere.endswith('(n3) announces another group: "elsewhere"')


async def test_another_user_is_informed_what_is_not_checked(loopback: Loopback, hosts: Switch) -> None:
    daemons = [daemon_on(loopback, host) for host in hosts.hosts[:2]]
    await in_order(daemons)
    loopback.directory.chmod(0o755)
    hosts.hosts[0].run("sysctl", "-q", "net.ipv4.ping_group_range=1 0")
    _, denied = await doctor(daemons[0], *as_ordinary_user())
    (sentence,) = faults(denied)
    assert "permission denied" in sentence
    daemons[0].control_socket.chmod(0o666)
    code, found = await doctor(daemons[0], *as_ordinary_user())
    assert (code, faults(found)) == (0, [])
    (psk,) = texts(found, "psk", ok=True)
    assert psk.startswith(f"this user may not read {loopback.psk}, so only TCP connections are tried")
    accepted = f"a program accepts connections at {hosts.hosts[1].ipv4} port 11111 of {shown(daemons[1])}, connected in"
    assert any(text.startswith(accepted) for text in texts(found, "node", ok=True))
    assert texts(found, "path", ok=True) == ["this user may send no ICMP, so the size of packets is not checked"]


async def test_without_the_psk_this_node_itself_is_not_taken_for_another(loopback: Loopback, hosts: Switch) -> None:
    for host in hosts.hosts[:2]:
        host.run("ip", "link", "add", "docker0", "type", "bridge")
        host.run("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
        host.run("ip", "link", "set", "docker0", "up")
    daemons = [daemon_on(loopback, host) for host in hosts.hosts[:2]]
    await in_order(daemons)
    loopback.directory.chmod(0o755)
    daemons[0].control_socket.chmod(0o666)
    for line in DROP:
        hosts.hosts[1].run("nft", line)
    code, found = await doctor(daemons[0], *as_ordinary_user())
    address, other = hosts.hosts[1].ipv4, shown(daemons[1])
    assert code == 1
    nodes = texts(found, "node", ok=False)
    assert f"{other} does not answer at {address} port 11111 within 2 s" in nodes
    assert f"{other} announces 172.17.0.1 port 11111, but this node itself answers there" in nodes
    assert not any("172.17.0.1" in text for text in texts(found, "path", ok=True))


async def test_without_a_daemon_this_machine_is_checked(loopback: Loopback, hosts: Switch) -> None:
    daemon = daemon_on(loopback, hosts.hosts[0])
    code, found = await doctor(daemon)
    assert (code, faults(found)) == (1, [f"{daemon.control_socket}: no daemon listens there; is pskkeyd running?"])
    assert texts(found, "key_server", ok=True) == ["TCP port 11111 is free for the key server"]
    (mdns,) = texts(found, "mdns", ok=True)
    assert mdns.startswith("mDNS can run on 1 interface; UDP port 5353 is free")
    hold = (
        "import socket; a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(('', 5353)); "
        "b = socket.create_server(('', 11111)); print(flush=True); input()"
    )
    found, pid = await doctor_beside(daemon, hold)
    (mdns,) = texts(found, "mdns", ok=False)
    assert f"(pid {pid}) has UDP port 5353 for itself" in mdns
    (port,) = texts(found, "key_server", ok=False)
    assert port == f"TCP port 11111 of 0.0.0.0 is in use by python3 (pid {pid})"


async def test_port_that_systemd_keeps_while_the_daemon_is_stopped_is_no_fault(
    loopback: Loopback, hosts: Switch
) -> None:
    daemon = daemon_on(loopback, hosts.hosts[0])
    keep = "import socket; a = socket.socket(); a.bind(('', 11111)); print(flush=True); input()"  # a reservation
    found, _ = await doctor_beside(daemon, keep)
    assert texts(found, "key_server", ok=True) == ["systemd keeps TCP port 11111 for the key server"]


async def test_port_of_the_other_ip_version_may_be_taken(loopback: Loopback, hosts: Switch) -> None:
    daemon = daemon_on(loopback, hosts.hosts[0], {"ip": "v4"})
    hold = "import socket; a = socket.create_server(('::', 11111), family=socket.AF_INET6); print(flush=True); input()"
    found, _ = await doctor_beside(daemon, hold)
    assert texts(found, "key_server", ok=True) == ["TCP port 11111 is free for the key server"]


async def test_each_interface_that_is_named_and_not_used_is_a_fault(loopback: Loopback, hosts: Switch) -> None:
    host = hosts.hosts[0]
    for name, state in (("spare", "down"), ("named", "down"), ("bare", "up")):
        host.run("ip", "link", "add", name, "type", "bridge")
        host.run("ip", "link", "set", name, "addrgenmode", "none")
        host.run("ip", "link", "set", name, state)
    host.run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "end")
    host.run("ip", "link", "set", "cable", "up")
    host.run("ip", "link", "add", "pulled", "link", "cable", "type", "macvlan")  # of a kind that is not for containers
    host.run("ip", "link", "set", "pulled", "addrgenmode", "none")
    host.run("ip", "address", "add", "10.9.0.1/24", "dev", "pulled")
    host.run("ip", "link", "set", "pulled", "up")
    daemon = daemon_on(loopback, host, {"interfaces": [INTERFACE, "named", "bare", "missing0", "pulled"]})
    _, found = await doctor(daemon)
    lo, used, spare, *_ = texts(found, "interface", ok=True)
    assert lo == "lo is not used: [network] interfaces does not name it"
    assert used.startswith(f"{INTERFACE} is used: ")
    assert spare == "spare is not used: [network] interfaces does not name it"
    down, bare, pulled, missing = texts(found, "interface", ok=False)
    assert (down, bare) == ("named is not used: it is down", "bare is not used: it has no address")
    assert pulled == "pulled would be used, but it has no link"
    assert "this machine has no missing0 now" in missing


async def test_unnamed_interface_without_a_link_is_a_fault_only_if_no_other_has_one(
    loopback: Loopback, hosts: Switch
) -> None:
    host = hosts.hosts[0]
    host.run("ip", "link", "add", "cable", "type", "veth", "peer", "name", "end")
    host.run("ip", "link", "set", "cable", "up")
    host.run("ip", "link", "add", "pulled", "link", "cable", "type", "macvlan")
    host.run("ip", "address", "add", "10.9.0.1/24", "dev", "pulled")
    host.run("ip", "link", "set", "pulled", "up")
    _, found = await doctor(daemon_on(loopback, host))
    assert "pulled would be used, but it has no link" in texts(found, "interface", ok=True)
    host.run("ip", "link", "set", INTERFACE, "down")
    _, found = await doctor(daemon_on(loopback, host))
    assert "pulled would be used, but it has no link" in texts(found, "interface", ok=False)


async def test_mistake_in_the_configuration_is_a_fault(loopback: Loopback, hosts: Switch) -> None:
    daemon = daemon_on(loopback, hosts.hosts[0])
    daemon.config.write_text("[network]\nport = 0\n")
    _, found = await doctor(daemon)
    (mistake,) = texts(found, "configuration", ok=False)
    assert mistake.startswith(f"{daemon.config}: [network] port")


async def test_probes_begin_no_later_than_their_bound(tmp_path: Path) -> None:
    with private_network():
        configure(f"neigh replace 10.83.9.9 lladdr 02:00:00:00:00:09 dev {INTERFACE}")
        psk = tmp_path / "psk"
        psk.touch(0o600)
        psk.write_text(generate_psk_line("group") + "\n")
        peers = [PeerStatus(f"{number:016x}", "n", ("10.83.9.9",), 11111, True) for number in range(10 * AT_ONCE)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        probes = await probe_peers(peers, "f" * 16, 11111, load_psk(psk).active)
        assert loop.time() - began < BEGIN_WITHIN + PROBE_WITHIN + 1
    answers = {answer: sum(probe.answer is answer for probe in probes) for answer in Answer}
    assert answers[Answer.NO_CONNECTION] == 3 * AT_ONCE
    assert answers[Answer.NOT_TRIED] == 7 * AT_ONCE


async def test_first_address_of_each_node_is_tried_before_further_ones() -> None:
    silent = [f"10.83.9.{number}" for number in range(1, 4)]
    with private_network(), socket.create_server(("", 11112), backlog=512):
        configure(*(f"neigh replace {one} lladdr 02:00:00:00:00:09 dev {INTERFACE}" for one in silent))
        peers = [PeerStatus(f"{one:016x}", "n", (source(one), *silent), 11112, True) for one in range(3 * AT_ONCE)]
        probes = await probe_peers(peers, "f" * 16, 11111, None)
    assert [(probe.peer.id, probe.address) for probe in probes] == [
        (peer.id, address) for peer in peers for address in peer.addresses
    ]
    assert all((probe.answer is Answer.CONNECTED) is (probe.address not in silent) for probe in probes)
    assert any(probe.answer is Answer.NOT_TRIED for probe in probes)


async def test_path_to_a_machine_that_answers_nothing_has_no_size() -> None:
    with private_network(), EchoSockets() as sockets:
        own, silent = await sockets.measure([source(3), "10.83.9.9"])
    assert (own.address, own.arrived) == (source(3), own.wanted)
    assert (silent.address, silent.wanted, silent.arrived) == ("10.83.9.9", 1500, None)
