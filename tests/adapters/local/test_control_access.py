"""The access of real users to the Varlink service: reading and commands."""

import asyncio
import socket
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pskkey.adapters.local.control_socket import MAX_CONNECTIONS_OF_OTHERS, ControlSocket
from pskkey.adapters.local.local_access import LocalAccess
from tests.adapters.local.other_user import NOBODY, acts_as_nobody, let_everybody_enter
from tests.adapters.local.test_control_socket import STATUS, Caller, service

CALL_AS = """
import socket, sys
connections = []
for method in sys.argv[2:]:
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
    connections.append(s)
    try:
        s.sendall(b'{"method":"io.pskkey.Control.%s"}' % method.encode() + bytes(1))
        print(s.recv(9999))
    except OSError as error:
        print(error)
"""


async def call_as_nobody(path: Path, *methods: str) -> list[str]:
    """Call methods as user nobody, each on a connection of its own. Return each answer."""
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", CALL_AS, path, *methods,
        user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output.decode().splitlines()


@acts_as_nobody
async def test_other_users_read_but_do_not_command(tmp_path: Path) -> None:
    let_everybody_enter(tmp_path)
    async with service(tmp_path / "c"):
        (tmp_path / "c").chmod(0o666)
        status, network, denied = await call_as_nobody(tmp_path / "c", "GetStatus", "GetNetwork", "Rekey")
        assert '"role":"master"' in status
        assert '"seen":1' in network
        assert "org.varlink.service.PermissionDenied" in denied
    async with service(tmp_path / "c", users=("nobody",)):
        (allowed,) = await call_as_nobody(tmp_path / "c", "Rekey")
        assert allowed == r"b'{}\x00'"


@acts_as_nobody
async def test_one_user_cannot_take_all_places(tmp_path: Path) -> None:
    let_everybody_enter(tmp_path)
    async with service(tmp_path / "c"):
        (tmp_path / "c").chmod(0o666)
        answers = await call_as_nobody(tmp_path / "c", *["GetStatus"] * (MAX_CONNECTIONS_OF_OTHERS + 1))
        assert sum("master" in answer for answer in answers) == 16


FOLLOW = """
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b'{"method":"io.pskkey.Control.GetStatus","more":true}' + bytes(1))
while received := s.recv(9999):
    print(received, flush=True)
"""


@acts_as_nobody
@pytest.mark.parametrize("inherits", [False, True])
async def test_follower_whose_user_may_not_connect_any_more_is_closed_unless_inherited(
    tmp_path: Path, inherits: bool
) -> None:
    path = let_everybody_enter(tmp_path) / "c"
    inherited = socket.socket(socket.AF_UNIX) if inherits else None
    if inherited is not None:
        inherited.bind(str(path))
        inherited.listen()
    control = ControlSocket(lambda: STATUS, {}, ("nobody",), (), Counter(), "1.2")
    await control.start(path, inherited)
    path.chmod(0o666)
    ours = Caller(path)
    await ours.send({"method": "io.pskkey.Control.GetStatus", "more": True})
    follower = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", FOLLOW, path, user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.PIPE
    )
    assert follower.stdout is not None
    try:
        for access in (("nobody",), ()):
            assert b"master" in await asyncio.wait_for(follower.stdout.readline(), 10)
            assert await ours.receive() is not None
            control.permit(LocalAccess.of(access, ()))
            control.status_changed()
        last = await asyncio.wait_for(follower.stdout.readline(), 10)
        assert (b"master" in last) == inherits
        assert await ours.receive() is not None
    finally:
        await control.stop()
        await follower.wait()
