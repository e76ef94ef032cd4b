"""The verbs of `pskkeyctl` that follow the status: `wait`, `rekey --wait`, `switchover --wait` and `monitor`.

They outlive the daemon: a service manager may restart it meanwhile.
"""

import json
import time
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from pskkey.errors import PeerError, Unreachable
from pskkey.model import MAX_EPOCH
from pskkey.program import wait_while_output_is_read
from pskkey.tools.ctl.control_client import call, follow_status, get_status
from pskkey.tools.ctl.status_changes import StatusChange, changes, describe_master, id_and_name, opening
from pskkey.tools.ctl.status_reading import MasterStatus, Status
from pskkey.tools.ctl.status_view import safe

ANSWER_WITHIN: Final = 5.0
"""Seconds for the reply to one call."""
RECONNECT_PAUSE: Final = 0.1
"""Seconds between two attempts to connect while the daemon is away."""
SCHEMA: Final = 1

type Condition = Callable[[Status], str | None]
"""Returns a sentence about what is still missing; None when nothing is."""


def has_epoch(epoch: int) -> Condition:
    """Return the condition that the node sends with a key of this epoch or a later one.

    The next 32767 epochs are later ones. After 65535 comes 1, with a higher term: 2 is later than 65535, and a node at
    65534 reaches 1 with its second new key.
    """

    def missing(status: Status) -> str | None:
        current = status.current_epoch
        if current is None:
            return "this node has no key yet"
        if any(condition.kind == "key_expired" for condition in status.conditions):
            return "this node does not send, because its key has expired"
        return None if (current - epoch) % MAX_EPOCH <= MAX_EPOCH // 2 else f"this node sends with epoch {current}"

    return missing


def has_role(role: str) -> Condition:
    """Return the condition that the node has this role."""
    return lambda status: None if status.role == role else f"this node is {safe(status.role)}"


def is_synced(status: Status) -> str | None:
    """Return what is still missing: to have joined, one key to send with, no next key, and no late member.

    Only the master knows of late members.
    """
    if not status.joined:
        return f"this node is {safe(status.role)}"
    if sum(key.state == "current" for key in status.keys) != 1:
        return "this node has no key to send with yet"
    if status.next is not None:
        return f"the key of epoch {status.next.epoch} is being distributed"
    return _late(status)


def wait_until(path: Path, condition: Condition, goal: str, timeout: float) -> Status:
    """Return the first status that meets the condition. Raises TimeoutError, which states what was missing last."""
    deadline = time.monotonic() + timeout
    missing = f"{path}: pskkeyd has not answered"
    try:
        with closing(_statuses(path, deadline)) as statuses:
            while True:
                status = next(statuses)
                if isinstance(status, Unreachable):
                    missing = str(status)
                elif (lacking := condition(status)) is None:
                    return status
                else:
                    missing = lacking
    except TimeoutError:
        raise TimeoutError(f"{goal} not within {timeout:g} s: {missing}") from None


def rekey(path: Path, wait: bool, timeout: float, as_json: bool) -> None:
    """Request a rekey; with `wait`, wait until the group sends with a key that was not in use before."""
    _, before = get_status(path, min(timeout, ANSWER_WITHIN))
    call(path, "Rekey", {}, min(timeout, ANSWER_WITHIN))
    if not wait:
        return
    # A key that is being distributed already serves this request too.
    old = {key.fingerprint for key in before.keys if key.state != "next"}

    def missing(status: Status) -> str | None:
        if status.current is not None and status.current.fingerprint not in old:
            return _late(status)
        if status.next is not None:
            return f"the key of epoch {status.next.epoch} is being distributed"
        return f"no new key has come; this node is {safe(status.role)}"

    status = wait_until(path, missing, "a new key everywhere:", timeout)
    key = next(key for key in status.keys if key.state == "current")
    text = f"epoch {key.epoch}, {safe(key.fingerprint)}"
    _print(text, {"epoch": key.epoch, "fingerprint": key.fingerprint}, as_json)


def switch_over(path: Path, node: str | None, wait: bool, timeout: float, as_json: bool) -> None:
    """Have the mastership handed over; with `wait`, wait until this node has joined the new master.

    Raises PeerError when another node than `node` has become master.
    """
    call(path, "Switchover", {} if node is None else {"node": node}, min(timeout, ANSWER_WITHIN))
    if not wait:
        return

    def missing(status: Status) -> str | None:
        return None if status.role == "client" and status.master else f"this node is {safe(status.role)}"

    status = wait_until(path, missing, "another master:", timeout)
    if node is not None and not _is_called(status.master, node):
        raise PeerError("other_master", f"{describe_master(status)} was elected instead of {safe(node)}")
    _print(
        f"{describe_master(status)}, term {status.term}",
        {"master": id_and_name(status.master), "term": status.term},
        as_json,
    )


def monitor(path: Path, as_json: bool) -> NoReturn:
    """Print each change, for ever. Raises Unreachable when no daemon is there at the beginning."""
    last: Status | None = None
    away = returning = False
    statuses = _statuses(path, None, shown=True)
    while True:
        status = next(statuses)
        if isinstance(status, Unreachable):
            if last is None:
                raise status
            away = True
            text = f"the connection to the daemon was lost: {status}"
            _print_change(StatusChange("daemon_away", text, {"reason": str(status)}), as_json)
            continue
        if away:
            away, returning = False, True
            _print_change(StatusChange("daemon_back", "the connection to the daemon is back", {}), as_json)
        if last is not None:
            status = _with_last_known(status, last, returning)
            returning &= not status.joined
        for change in [opening(status)] if last is None else changes(last, status):
            _print_change(change, as_json)
        last = status


def _statuses(path: Path, deadline: float | None, *, shown: bool = False) -> Generator[Status | Unreachable]:
    """Yield the status whenever it changes, and the error each time that the daemon goes away.

    Tries to connect again until `deadline` (of time.monotonic; None: for ever), then raises TimeoutError. `shown`
    is that of `follow_status`.
    """
    away = False
    while True:
        try:
            with closing(follow_status(path, deadline, shown=shown)) as statuses:
                for status in statuses:
                    away = False
                    yield status
        except Unreachable as error:
            if not away:
                away = True
                yield error
        pause = RECONNECT_PAUSE if deadline is None else min(RECONNECT_PAUSE, deadline - time.monotonic())
        if shown:
            wait_while_output_is_read(None, pause)
        else:
            time.sleep(max(0.0, pause))


def _with_last_known(status: Status, last: Status, returning: bool) -> Status:
    """Return the status, completed from the last one while this node does not know the others.

    A node without a master does not know the members. A restarted daemon has no session managers until they connect.
    """
    if status.joined:
        return status
    if returning:
        status = status._replace(sessions=last.sessions, sender_id=last.sender_id)
    return status._replace(members=last.members, level=last.level, held_back_by=last.held_back_by)


def _late(status: Status) -> str | None:
    names = [safe(member.name) for member in status.late]
    return f"not yet acknowledged by {', '.join(names)}" if names else None


def _is_called(master: MasterStatus | None, wanted: str) -> bool:
    return master is not None and (master.name == wanted or master.id.startswith(wanted))


def _print(text: str, values: dict[str, Any], as_json: bool) -> None:
    print(json.dumps({"schema": SCHEMA, **values}) if as_json else text)


def _print_change(change: StatusChange, as_json: bool) -> None:
    now = datetime.now(UTC)
    if as_json:
        head = {"schema": SCHEMA, "time": now.isoformat(timespec="milliseconds"), "event": change.event}
        line = json.dumps({**head, **change.values})
    else:
        line = f"{now.astimezone():%Y-%m-%d %H:%M:%S}.{now.microsecond // 1000:03} {change.text}"
    # The reader of a pipe gets each line at once.
    print(line, flush=True)
