"""The report of the network: its peers, their order, and its bounds."""

from dataclasses import replace
from typing import Final

import pytest

from pskkey.adapters.discovery.heard_adverts import HeardAdvert
from pskkey.adapters.discovery.network import Network
from pskkey.config.schema import NetworkTable
from pskkey.daemon.network_report import MAX_PEERS, network_report
from pskkey.model import Group, Member

OWN: Final = Member("0" * 16, "own", ("10.0.0.1",), 11111)
MASTER: Final = Member("1" * 16, "pump", ("10.0.0.2",), 11112)
VALVE: Final = Member("2" * 16, "valve", ("10.0.0.3",), 11111)
NETWORK: Final = Network(addresses=("10.0.0.1",), prefixes=("10.0.0.0/24", "fd00::/64"))
STRANGER: Final = HeardAdvert("other_psk", "x", "evil", None, "plant", "10.0.0.9", 2.0, (), 0)


def heard(node_id: str, source: str = "10.0.0.4") -> HeardAdvert:
    return HeardAdvert("ours", "instance", "lamp", node_id, "plant", source, 1.26, ("10.0.0.4",), 11113)


def peers(
    *rows: HeardAdvert, group: Group | None = None, master: Member | None = None, answered_at: str | None = None
) -> list[dict[str, object]]:
    found = network_report(NetworkTable(), OWN.id, NETWORK, rows, master, group, answered_at)["peers"]
    assert isinstance(found, list)
    return found


def test_peers_are_the_master_then_the_heard_nodes_then_the_members_without_this_node() -> None:
    group = Group(1, MASTER.id, (OWN, VALVE, MASTER), ())
    assert peers(STRANGER, heard("3" * 16), group=group, master=MASTER) == [
        {"id": MASTER.id, "name": "pump", "addresses": ["10.0.0.2"], "port": 11112, "is_member": True},
        {"id": "3" * 16, "name": "lamp", "addresses": ["10.0.0.4"], "port": 11113, "is_member": False},
        {"id": VALVE.id, "name": "valve", "addresses": ["10.0.0.3"], "port": 11111, "is_member": True},
    ]
    assert peers(group=Group(1, OWN.id, (OWN,), ()), master=OWN) == []


@pytest.mark.parametrize(
    ("source", "more"),
    [("fe80::1%eth0", ["fe80::1%eth0"]), ("10.0.0.5", ["10.0.0.5"]), ("10.0.0.4", []), ("10.0.1.5", [])],  # far
)
def test_source_of_an_advert_is_one_more_address_if_the_daemon_tries_it(source: str, more: list[str]) -> None:
    (peer,) = peers(heard("3" * 16, source))
    assert peer["addresses"] == ["10.0.0.4", *more]


def test_first_address_of_a_peer_is_the_most_likely_one() -> None:
    two = replace(heard("3" * 16, "10.0.0.7"), addresses=("172.17.0.1", "10.0.0.4", "10.0.0.7"))
    (peer,) = peers(two)
    assert peer["addresses"] == ["10.0.0.7", "172.17.0.1", "10.0.0.4"]
    (peer,) = peers(group=Group(1, MASTER.id, (OWN, MASTER), ()), master=MASTER, answered_at="10.0.0.9")
    assert peer["addresses"] == ["10.0.0.9", "10.0.0.2"]


def test_link_local_address_without_a_zone_is_none() -> None:
    announced = replace(VALVE, addresses=("fe80::2", "fd00::2"))
    (peer,) = peers(group=Group(1, OWN.id, (OWN, announced), ()), master=OWN)
    assert peer["addresses"] == ["fd00::2"]
    (peer,) = peers(replace(heard("3" * 16, "fe80::2%eth0"), addresses=("fe80::2",)))
    assert peer["addresses"] == ["fe80::2%eth0"]


def test_no_more_than_a_fixed_number_of_peers_is_reported() -> None:
    rows = [heard(f"{number:016x}") for number in range(1, MAX_PEERS + 4)]
    report = network_report(NetworkTable(), OWN.id, NETWORK, rows, None, None, None)
    assert (len(report["peers"]), report["peers_left_out"]) == (MAX_PEERS, 3)


def test_report_has_the_settings_in_use_and_the_heard_adverts() -> None:
    settings = NetworkTable(interfaces=("eth0",), ip="v4", port=4711)
    assert network_report(settings, OWN.id, NETWORK, [heard("3" * 16), STRANGER], None, None, None) == {
        "schema": 1,
        "interfaces": ["eth0"],
        "ip": "v4",
        "port": 4711,
        "addresses": ["10.0.0.1"],
        "peers": peers(heard("3" * 16)),
        "peers_left_out": 0,
        "heard": [
            {
                "kind": "ours", "name": "lamp", "id": "3" * 16, "group": "plant", "source": "10.0.0.4", "age_s": 1.3,
            },
            {
                "kind": "other_psk", "name": "evil", "id": None, "group": "plant", "source": "10.0.0.9", "age_s": 2.0,
            },
        ],
    }  # fmt: skip
