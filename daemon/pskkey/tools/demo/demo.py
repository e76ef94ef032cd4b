"""The demo: three daemons on this machine elect a master, share a key, lose the master and keep the key.

The demo checks each statement that it prints. Exit codes: 0 all are true, 1 one is not, 130 interrupted.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

from pskkey.client.watcher import KeyWatcher
from pskkey.config.psk import generate_psk_line
from pskkey.errors import PskkeyError
from pskkey.model import KeyEntry, KeyState
from pskkey.program import run
from pskkey.tools.ctl.status_reading import Status
from pskkey.tools.demo.demo_node import DemoFailed, DemoNode, free_port, program

NODES: Final = (
    ("0a000001", "pump", "127.0.0.1"),
    ("0b000002", "valve", "127.0.0.2"),
    ("0c000003", "gauge", "127.0.0.3"),
)
"""Id, name and address of each."""

PATIENCE: Final = 15.0
"""Seconds for the daemons to agree. They need about two at first, and less after the death of one."""
POLL_INTERVAL: Final = 0.02
MAX_TEMPORARY: Final = 60
"""Bytes of the path of the temporary directory that leave room for a Unix socket below it (unix(7): 107 in all)."""


def main() -> int:
    """Run the demo and clean up; return the exit code."""
    return run("demo", _demonstrate)


def _demonstrate() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    print("pskkey on three nodes of this machine. This takes about five seconds.", flush=True)
    with ExitStack() as cleanup:
        nodes: list[DemoNode] = []
        try:
            nodes += _make_nodes(cleanup)
            _show(nodes)
        except (PskkeyError, TimeoutError) as error:
            print(f"\nThe demo FAILED: {error}", file=sys.stderr)
            for node in nodes:
                print(f"\nThe log of {node.name} ends:", *node.read_log_end(), sep="\n  ", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nInterrupted; the daemons are stopped.", file=sys.stderr)
            return 130
    seconds = time.monotonic() - began
    print(f"\nEverything was as expected, in {seconds:.1f} s. The daemons are stopped, and their files are removed.")
    return 0


def _show(nodes: Sequence[DemoNode]) -> None:
    addresses = ", ".join(node.address for node in nodes)
    _step(f"1. Three daemons start, on {addresses}, each with a configuration of its own")
    for node in nodes:
        node.start()
    agreed, seconds = _agreement(nodes)
    _print_result(f"They found each other by mDNS and elected {_master_name(agreed)} in {seconds:.1f} s.")
    for node in nodes:
        _print_status(node)

    _step("2. A session manager on each node takes the key from its daemon (KeyWatcher)")
    before = _same_key(nodes)

    master = next(node for node in nodes if node.name == _master_name(agreed))
    survivors = [node for node in nodes if node is not master]
    _step(f"3. The master, {master.name}, is killed (SIGKILL)")
    master.kill()
    agreed, seconds = _agreement(survivors, lost=master)
    successor = _master_name(agreed).capitalize()
    _print_result(f"{successor} took over, and both survivors agree, {seconds * 1000:.0f} ms after the kill.")
    for node in survivors:
        _print_status(node)

    _step("4. The session managers of the survivors hold the same key as before")
    after = _same_key(survivors)
    if (after.epoch, after.key) != (before.epoch, before.key):
        raise DemoFailed(f"the key changed: {_described(before)} before the kill, {_described(after)} after it")
    _print_result(f"Fingerprint {before.key.fingerprint} before and after: the master died, the key is the same.")


def _make_nodes(cleanup: ExitStack) -> list[DemoNode]:
    temporary = tempfile.gettempdir()
    if len(os.fsencode(temporary)) > MAX_TEMPORARY:
        temporary = "/tmp"  # noqa: S108  mkdtemp makes a directory of our own in it
    directory = Path(tempfile.mkdtemp(prefix="pskkey-demo-", dir=temporary))
    cleanup.callback(shutil.rmtree, directory)
    psk_file = directory / "pskkey.psk"
    psk_file.touch(mode=0o600)
    psk_file.write_text(f"{generate_psk_line('demo')}\n")
    # A name of its own, because another demo, or a real group, may run on this machine.
    group = f"demo-{secrets.token_hex(4)}"
    port = free_port([address for _, _, address in NODES])
    return [
        cleanup.enter_context(DemoNode(directory / name, group, node_id, name, address, port))
        for node_id, name, address in NODES
    ]


def _agreement(nodes: Sequence[DemoNode], lost: DemoNode | None = None) -> tuple[Status, float]:
    """Wait until all `nodes` name one master, not `lost`, and the same members and key; return a status and the time.

    Raises DemoFailed when that takes more than PATIENCE.
    """
    began = time.monotonic()
    while (seconds := time.monotonic() - began) < PATIENCE:
        statuses = [node.status() for node in nodes]
        first = statuses[0]
        if first is not None and all(status is not None and _view(status) == _view(first) for status in statuses):
            is_complete = first.joined and first.current_epoch is not None and len(first.members) == len(nodes)
            if is_complete and (lost is None or _master_name(first) != lost.name):
                return first, seconds
        time.sleep(POLL_INTERVAL)
    seen = (status.role if status else "no answer" for status in statuses)
    raise DemoFailed(
        f"{', '.join(node.name for node in nodes)} did not agree on one master within {PATIENCE:.0f} s; "
        f"they are: {', '.join(seen)}"
    )


def _view(status: Status) -> object:
    """Return what the nodes of one group must agree on."""
    members = {member.id for member in status.members}
    return status.joined, status.master, status.term, status.current_epoch, members


def _same_key(nodes: Sequence[DemoNode]) -> KeyEntry:
    """Watch the keys of all `nodes`, show their fingerprints, return the key. Raises DemoFailed when they differ."""
    with ExitStack() as watching:
        watchers = [watching.enter_context(KeyWatcher(node.keys_socket)) for node in nodes]
        entries = [_sending_entry(watcher.wait(PATIENCE)) for watcher in watchers]
    for node, entry in zip(nodes, entries, strict=True):
        _print_result(f"{node.name:<6} {_described(entry)}")
    if any((entry.epoch, entry.key) != (entries[0].epoch, entries[0].key) for entry in entries):
        raise DemoFailed("the session managers do not hold the same key")
    return entries[0]


def _sending_entry(state: KeyState) -> KeyEntry:
    entry = next((entry for entry in state.entries if entry.send), None)
    if entry is None:
        raise DemoFailed("a session manager got no key to send with")
    return entry


def _described(entry: KeyEntry) -> str:
    return f"fingerprint {entry.key.fingerprint}, epoch {entry.epoch}, {entry.key.suite.name}"


def _print_status(node: DemoNode) -> None:
    print(f"\n   {node.name}$ pskkeyctl status", flush=True)
    shown = subprocess.run(
        [program("pskkeyctl"), "status", "--socket", node.control_socket],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
    )
    for line in (shown.stdout + shown.stderr).splitlines():
        print(f"     {line}")
    if shown.returncode:
        raise DemoFailed(f"`pskkeyctl status` on {node.name} ended with exit code {shown.returncode}")


def _master_name(status: Status) -> str:
    return status.master.name if status.master else "nobody"


def _step(text: str) -> None:
    print(f"\n{text}", flush=True)


def _print_result(text: str) -> None:
    print(f"   {text}", flush=True)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
