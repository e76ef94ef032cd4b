"""The program that has UDP port 5353, as different users see it. Needs root."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pskkey.adapters.discovery.port_holder import describe_holder, find_holders
from tests.system.ordinary_user import as_ordinary_user
from tests.system.private_network import own_network
from tests.udp_port import port_taken

pytestmark = pytest.mark.root

ASK = "from pskkey.adapters.discovery.port_holder import describe_holder; print(describe_holder(5353))"
ASK_TCP = "from pskkey.adapters.discovery.port_holder import find_holders as f; print(*f(5353, 5.0, 'tcp')"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_program_is_described_with_its_name_and_process(family: int) -> None:
    with own_network("link set lo up"), port_taken(family) as process:
        assert describe_holder(5353) == f"{Path(sys.executable).name} (pid {process.pid})"
        assert describe_holder(5354) is None


def test_program_of_another_user_is_described_with_the_user() -> None:
    with own_network("link set lo up"), port_taken():
        command = [*as_ordinary_user(), sys.executable, "-c", ASK]
        asked = subprocess.run(command, capture_output=True, text=True, check=True)
        assert asked.stdout == "a program of user id 0\n"


def test_own_sockets_are_not_described() -> None:
    with own_network("link set lo up"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("", 5353))
        assert describe_holder(5353) is None


def test_program_that_listens_on_a_tcp_port_is_described() -> None:
    with own_network("link set lo up"), socket.create_server(("", 5353)):
        assert not list(find_holders(5353, 5.0, "tcp"))  # it is ours
        asked = subprocess.run(
            [sys.executable, "-c", f"{ASK_TCP}, *f(5353))"], capture_output=True, text=True, check=True
        )
        assert asked.stdout == f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})\n"


def test_bound_tcp_socket_that_does_not_listen_is_not_described() -> None:
    with own_network("link set lo up"), socket.socket() as bound:
        bound.bind(("", 5353))
        asked = subprocess.run([sys.executable, "-c", f"{ASK_TCP})"], capture_output=True, text=True, check=True)
        assert asked.stdout == "\n"


def test_each_program_that_shares_the_port_is_found_once() -> None:
    with own_network("link set lo up"), port_taken(socket.AF_INET) as one, port_taken(socket.AF_INET6) as other:
        name = Path(sys.executable).name
        assert set(find_holders(5353, patience=5.0)) == {f"{name} (pid {each.pid})" for each in (one, other)}
