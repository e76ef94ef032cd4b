"""The checks of `pskkeyctl doctor` that read what the daemon reports: adverts, settings that differ, conditions."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from pskkey.model import ConditionKind
from pskkey.tools.ctl.doctor_finding import Finding, shorten
from pskkey.tools.ctl.network_reading import HeardStatus, NetworkStatus
from pskkey.tools.ctl.status_reading import ConditionStatus, Status

CHECK_OF: Final[dict[str, str]] = {
    ConditionKind.MDNS_BLOCKED: "mdns",
    ConditionKind.MDNS_PARTIAL: "mdns",
    ConditionKind.NO_KEY_SERVER: "key_server",
    ConditionKind.TIMES_DIFFER: "settings",
    ConditionKind.NO_INTERFACE: "interface",
    ConditionKind.INTERFACE_MISSING: "interface",
    ConditionKind.MASTER_UNREACHABLE: "node",
    ConditionKind.MEMBER_UNREACHABLE: "node",
}
"""The check that shows a condition of a kind; the others are shown by the check `condition`."""

_MAX_NAMED: Final = 8
"""Nodes that a sentence names."""


def conditions_of(status: Status, *kinds: str) -> list[Finding]:
    """Return a finding for each present condition of these kinds."""
    return [_finding(one) for one in status.conditions if one.kind in kinds]


def check_other_conditions(status: Status, found: Sequence[Finding]) -> list[Finding]:
    """Return a finding for each condition that none of the findings `found` shows already."""
    shown = {(one.check, one.subject) for one in found if not one.ok}
    checks = {check for check, _ in shown}

    def is_shown(condition: ConditionStatus) -> bool:
        check = CHECK_OF.get(condition.kind)
        return check in checks if condition.peer is None else (check, condition.peer) in shown

    left = [_finding(one)._replace(check="condition") for one in status.conditions if not is_shown(one)]
    if not left and not status.conditions:
        return [Finding("condition", True, "", "the daemon reports no trouble")]
    return left


def check_settings(status: Status, suite: str | None, service: str) -> list[Finding]:
    """Compare the times of the election and the `suite` of our configuration with those of the group."""
    found = conditions_of(status, ConditionKind.TIMES_DIFFER)
    if not found:
        found.append(Finding("settings", True, "", "no peer reports other times of the election"))
    current = status.current
    if suite is not None and current is not None and current.suite != suite:
        # A master changes the key by itself when it reads another suite.
        reload = f"reload the daemon: systemctl reload {service}"
        remedy = reload if status.role == "master" else "set the same [key] suite on all nodes, and reload the master"
        text = f"the group key is for {current.suite}, but the configuration of this node has [key] suite {suite}"
        found.append(Finding("settings", False, "", text, remedy))
    return found


def check_heard(status: Status, network: NetworkStatus) -> list[Finding]:
    """Report the adverts of the last minute: those of our group, of other groups, and with other PSKs."""
    kinds: defaultdict[str, list[HeardStatus]] = defaultdict(list)
    for row in network.heard:
        kinds[row.kind].append(row)
    found = [_heard_ours(kinds["ours"], status, bool(network.heard))]
    found += shorten(list(_heard_others(kinds["other_group"])), "hosts")
    found += shorten([_heard_with_other_psk(row) for row in kinds["other_psk"]], "hosts")
    return found


def _finding(condition: ConditionStatus) -> Finding:
    check = CHECK_OF.get(condition.kind, "condition")
    return Finding(check, False, condition.peer or "", condition.text, condition.remedy)


def _heard_ours(ours: Sequence[HeardStatus], status: Status, others: bool) -> Finding:
    if ours:
        nodes = _listed([f"{row.name} at {row.source}" for row in ours])
        return Finding("heard", True, "", f'nodes of group "{status.group}" heard in the last minute: {nodes}')
    if others_in_group := sum(member.id != status.node.id for member in status.members):
        # A client announces itself only when it changes, or when another node asks.
        text = f"no advert of the group came in the last minute, but {others_in_group} other members have a session"
        return Finding("heard", True, "", text)
    text = f'no other node of group "{status.group}" was heard in the last minute'
    remedy = "check that the other nodes run, and that the network between them carries multicast to UDP port 5353"
    if others:
        remedy = "compare [group] name and the PSK with those of the hosts below; " + remedy
    return Finding("heard", False, "", text, remedy)


def _heard_others(rows: Sequence[HeardStatus]) -> Iterator[Finding]:
    by_host: defaultdict[str, list[HeardStatus]] = defaultdict(list)
    for row in rows:
        by_host[row.source].append(row)
    for source, its in by_host.items():
        groups = _listed([f'"{group}"' for group in dict.fromkeys(row.group for row in its)])
        names = _listed(list(dict.fromkeys(row.name for row in its)))
        yield Finding("heard", True, source, f"{source} ({names}) announces another group: {groups}")


def _heard_with_other_psk(row: HeardStatus) -> Finding:
    text = f'{row.name} at {row.source} announces our group "{row.group}", but with another PSK'
    remedy = "compare `pskkeyctl psk list` on both nodes, and copy the PSK file, or set another [group] name there"
    return Finding("heard", False, row.source, text, remedy)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
