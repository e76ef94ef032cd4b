"""The place of an attack: hosts on a switch, a group of five, a newcomer, former devices, the attacker."""

import base64
import json
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from pskkey.config.psk import Psk, load_psk
from pskkey.wire.advert import instance_name
from tests.hostile.attacker import Attacker, Sent
from tests.hostile.local_user import GROUP, USER
from tests.hostile.recorder import Recorder
from tests.lab.daemon import Daemon, Tables
from tests.lab.group import Group
from tests.lab.laboratory import Laboratory
from tests.lab.namespaces import Host

MEMBERS: Final = 5
FORMER: Final = 2
"""Devices that were master, whose adverts were recorded, and that are switched off."""
HOSTS: Final = MEMBERS + 1 + FORMER
PORT: Final = 11111
GROUP_NAME: Final = "default"
RECORD_WITHIN: Final = 15.0
"""Seconds in which a daemon that starts announces itself."""

TABLES: Final[Tables] = {"handoff": {"groups": [GROUP]}}


class Stage:
    """One group, not started, and the attacker. Each stage has new nodes; the hosts are those of the laboratory."""

    def __init__(self, laboratory: Laboratory, rate: float) -> None:
        self.rate = rate
        """Bytes per second of the attack."""
        nodes = laboratory.group(HOSTS, TABLES)
        self._hosts = laboratory.hosts
        while len(self._hosts.hosts) <= HOSTS:
            self._hosts.add_host()
        self.members = Group(nodes.daemons[:MEMBERS])
        self.newcomer = nodes.daemons[MEMBERS]
        self.former = nodes.daemons[MEMBERS + 1 :]
        self.psk_file = laboratory.psk
        self._all = nodes
        self._directory = nodes.daemons[0].directory.parent
        self._attacker: Attacker | None = None
        self._admit_local_users()

    @property
    def host(self) -> Host:
        """The attacker's host."""
        return self._hosts.hosts[HOSTS]

    @property
    def member_hosts(self) -> Sequence[Host]:
        """The hosts of the members."""
        return self._hosts.hosts[:MEMBERS]

    @property
    def targets(self) -> list[tuple[str, int]]:
        """The key servers of the members."""
        return [(host.ipv4, PORT) for host in self.member_hosts]

    @property
    def names(self) -> list[str]:
        """The instance names of the members."""
        return [instance_name(daemon.id) for daemon in self.members.daemons]

    @property
    def psk(self) -> Psk:
        """The PSK of the group: an insider has it, a stranger does not."""
        return load_psk(self.psk_file).active

    async def record(self, daemon: Daemon, role: str) -> list[bytes]:
        """Start a device alone, record its adverts of a role, and kill it. Raises Failed."""
        with Recorder(self.host) as recorder:
            daemon.start()
            heard = await recorder.adverts(instance_name(daemon.id), role, RECORD_WITHIN)
        daemon.signal(signal.SIGKILL)
        await daemon.ended()
        return heard

    def switch_off(self, daemons: Sequence[Daemon]) -> None:
        """Unplug the cables of devices that are switched off: connections to them get no answer, not even a refusal."""
        for daemon in daemons:
            self._plug(daemon, "down")

    def flood(self, packets: Sequence[bytes], sources: int = 1, rate: float | None = None) -> None:
        """Attack with datagrams to the group of mDNS, sent again and again."""
        addresses = [self.host.ipv4, *self._more_addresses(sources - 1)]
        encoded = [base64.b64encode(packet).decode() for packet in packets]
        self.attack("stranger", {"packets": encoded, "sources": addresses, "bytes_per_second": rate or self.rate})

    def connect(self, kind: str, per_second: float) -> None:
        """Attack the key servers with connections without the PSK."""
        self.attack("connections", {"kind": kind, "targets": self.targets, "per_second": per_second})

    def betray(self, kind: str) -> None:
        """Attack the key servers over TLS with the PSK."""
        orders = {"kind": kind, "psk": str(self.psk_file), "group": GROUP_NAME, "targets": self.targets}
        self.attack("insider", {**orders, "bytes_per_second": self.rate})

    def misuse(self, kind: str) -> None:
        """Attack the sockets of every member as an ordinary user."""
        nodes = self.members.daemons
        paths = {
            "keys": [str(daemon.keys_socket) for daemon in nodes],
            "control": [str(daemon.control_socket) for daemon in nodes],
        }
        self.attack("local_user", {"kind": kind, **paths, "bytes_per_second": self.rate})

    def attack(self, module: str, orders: Mapping[str, object]) -> None:
        """Start the attacker on its host. Raises Failed."""
        file = self._directory / "orders.json"
        file.write_text(json.dumps(orders))
        self._attacker = Attacker(self.host.command, module, file)

    def end_attack(self) -> Sent:
        """End the attack and return the figures of the attacker. Raises Failed."""
        return Sent() if self._attacker is None else self._attacker.stop()

    def destroy(self) -> None:
        """End everything that still runs, also after an error, and plug in all cables."""
        if self._attacker is not None:
            self._attacker.destroy()
        self._all.destroy()
        for daemon in self.former:
            self._plug(daemon, "up")

    def _plug(self, daemon: Daemon, state: str) -> None:
        port = self._hosts.hosts[self._all.daemons.index(daemon)].port
        self._hosts.run("ip", "link", "set", port, state)

    def _more_addresses(self, count: int) -> list[str]:
        made = [f"10.83.{100 + number // 250}.{number % 250 + 1}" for number in range(count)]
        if made:
            batch = "".join(f"address replace {address}/16 dev eth0\n" for address in made)
            command = ["ip", "-n", self.host.namespace, "-batch", "-"]
            subprocess.run(command, input=batch, text=True, check=True, start_new_session=True)
        return made

    def _admit_local_users(self) -> None:
        """Give the user of the attack access to the sockets, as the group `pskkey` gives it to session managers."""
        group = pwd.getpwnam(USER).pw_gid
        for directory in (self._directory.parent, self._directory):
            directory.chmod(0o711)
        for daemon in self.members.daemons:
            for path in (daemon.keys_socket, daemon.control_socket):
                os.chown(path, -1, group)
