"""Interfaces and addresses in the configuration: each form works, or one sentence states what is wrong with it."""

import json
from pathlib import Path

import pytest

from pskkey.config.schema import Config
from pskkey.errors import ConfigError

LINK_LOCAL = "is link-local, so it needs its interface, as in "


def parsed(text: str) -> Config:
    """Return the configuration with this `[network]` table."""
    return Config.parse(f"[network]\n{text}", Path("/etc/pskkey.toml"))


def mistake_in(text: str) -> str:
    """Return the only sentence about a `[network]` table."""
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    (line,) = str(caught.value).split("\n")
    return line.removeprefix("/etc/pskkey.toml: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("eth0", "eth0"),
        ("eth0.5", "eth0.5"),
        ("brücke", "brücke"),
        ("enx0123456789ab-the-third-port", "enx0123456789ab-the-third-port"),
        ("n" * 127, "n" * 127),
        ("2", "2"),
        ("100%", "100%"),
        ("192.0.2.1", "192.0.2.1"),
        ("FD77:0::a", "fd77::a"),
        ("fe80::a", "fe80::a"),
        ("FE80:0::A%eth0.5", "fe80::a%eth0.5"),
        ("fe80::a%2", "fe80::a%2"),
        ("fe80::a%brücke", "fe80::a%brücke"),
        (f"fe80::a%{'n' * 127}", f"fe80::a%{'n' * 127}"),
        ("::1", "::1"),
    ],
)
def test_name_or_address_of_an_interface_is_accepted(text: str, value: str) -> None:
    assert parsed(f"interfaces = [{json.dumps(text)}]").network.interfaces == (value,)


@pytest.mark.parametrize("text", ["192.0.2.1", "169.254.0.1", "fd77::a", "fe80::a%eth0", "fe80::a%2", "127.0.0.1"])
def test_address_of_the_key_server_is_accepted(text: str) -> None:
    assert parsed(f'addresses = ["{text}"]').network.addresses == (text,)


PREFIX = 'has a prefix length; write "{}"'
MAPPED = 'is an IPv4 address in the form of IPv6; write "192.0.2.1"'
NO_ZONE = 'has a zone, which only a link-local IPv6 address has; write "{}"'
BAD_ZONE = "has no name or number of an interface behind the %"
WRONG_ANYWHERE = [
    ("fd77::a/64", PREFIX.format("fd77::a")),
    ("192.0.2.1/24", PREFIX.format("192.0.2.1")),
    ("fe80::a%eth0/64", PREFIX.format("fe80::a%eth0")),
    ("::ffff:192.0.2.1", MAPPED),
    ("fd77::a%eth0", NO_ZONE.format("fd77::a")),
    ("192.0.2.1%eth0", NO_ZONE.format("192.0.2.1")),
    ("fe80::a%", BAD_ZONE),
    ("fe80::a%0", BAD_ZONE),
    ("fe80::a%2147483648", BAD_ZONE),
    ("fe80::a%eth0:1", BAD_ZONE),
    ("fe80::a%eth 0", BAD_ZONE),
    ("fe80::a%eth0%1", BAD_ZONE),
]


@pytest.mark.parametrize("key", ["interfaces", "addresses"])
@pytest.mark.parametrize(("text", "reason"), WRONG_ANYWHERE)
def test_wrong_form_of_an_address_has_its_sentence(key: str, text: str, reason: str) -> None:
    assert mistake_in(f'{key} = ["{text}"]').startswith(f'[network] {key}: "{text}" {reason}; allowed: a list of ')


@pytest.mark.parametrize("key", ["interfaces", "addresses"])
def test_zone_is_at_most_as_long_as_an_alternative_name(key: str) -> None:
    assert f"{BAD_ZONE}; allowed: a list of " in mistake_in(f'{key} = ["fe80::a%{"n" * 128}"]')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("eth0:1", 'is the label of an address; write "eth0", or the address'),
        ("eth0:", 'is the label of an address; write "eth0", or the address'),
        ("", "is no interface name and no IP address"),
        (".", "is no interface name and no IP address"),
        ("..", "is no interface name and no IP address"),
        ("a b", "is no interface name and no IP address"),
        ("a\u2003b", "is no interface name and no IP address"),
        ("a\u0007b", "is no interface name and no IP address"),
        ("a/b", "is no interface name and no IP address"),
        ("02:00:5e:10:00:01", "is no interface name and no IP address"),
        ("fe80::xyz", "is no interface name and no IP address"),
        ("[fe80::a]", "is no interface name and no IP address"),
        ("n" * 128, "is no interface name and no IP address"),
        ("ü" * 64, "is no interface name and no IP address"),
        ("0.0.0.0", "is not an address that an interface has"),
        ("::", "is not an address that an interface has"),
        ("ff02::fb", "is not an address that an interface has"),
        ("224.0.0.251", "is not an address that an interface has"),
    ],
)
def test_wrong_name_of_an_interface_has_its_sentence(text: str, reason: str) -> None:
    assert f" {reason}; allowed: a list of " in mistake_in(f"interfaces = [{json.dumps(text)}]")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fe80::a", f'"fe80::a" {LINK_LOCAL}"fe80::a%eth0"'),
        ("eth0", '"eth0" is not an IP address'),
        ("0.0.0.0", '"0.0.0.0" is not an address that others could connect to'),
        ("ff02::1", '"ff02::1" is not an address that others could connect to'),
    ],
)
def test_wrong_address_of_the_key_server_has_its_sentence(text: str, reason: str) -> None:
    assert mistake_in(f'addresses = ["{text}"]').startswith(f"[network] addresses: {reason}; allowed: a list of at mo")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('ip = "v4"\naddresses = ["::1"]', '[network] addresses: ["::1"] has ::1 although ip = "v4"; allowed: '),
        (
            'ip = "v6"\naddresses = ["::1", "10.0.0.1"]',
            '[network] addresses: ["::1", "10.0.0.1"] has 10.0.0.1 although',
        ),
        (
            'addresses = ["fd77::a", "FD77:0::a"]',
            '[network] addresses: ["fd77::a", "FD77:0::a"] has fd77::a twice; allowed: ',
        ),
        (
            'addresses = ["fe80::a%lo", "fe80::a%1"]',  # the loopback interface has the number 1 in each network
            '[network] addresses: ["fe80::a%lo", "fe80::a%1"] has fe80::a%1 twice; allowed: ',
        ),
    ],
)
def test_values_that_exclude_each_other_have_a_sentence(text: str, start: str) -> None:
    assert mistake_in(text).startswith(start)


def test_one_link_local_address_on_two_interfaces_is_accepted() -> None:
    addresses = ("fe80::a%nosuch0", "fe80::a%nosuch1")
    assert parsed(f"addresses = {json.dumps(addresses)}").network.addresses == addresses
