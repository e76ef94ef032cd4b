"""Our key server with `openssl s_client` as its client."""

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pskkey import KeyServer, Secret
from pskkey.config.psk import Psk, load_psk
from tests.keyserver import openssl

type Serve = Callable[..., KeyServer]


@pytest.mark.parametrize(
    "options",
    [openssl.TLS_1_3, openssl.TLS_1_3_CHACHA, openssl.TLS_1_3_AES128, openssl.ECDHE_PSK],
    ids=" ".join,
)
@pytest.mark.parametrize("legacy_clients", [False, True])
def test_key_request_is_answered(serve: Serve, psk_path: Path, options: Sequence[str], legacy_clients: bool) -> None:
    server = serve(legacy_clients=legacy_clients)
    assert_key(server, openssl.ask(server.port, load_psk(psk_path).active, options))


@pytest.mark.parametrize("options", [openssl.LEGACY_CBC, openssl.LEGACY_GCM], ids=" ".join)
def test_plain_psk_suites_are_for_legacy_clients_only(serve: Serve, psk_path: Path, options: Sequence[str]) -> None:
    psk = load_psk(psk_path).active
    willing = serve(legacy_clients=True)
    assert_key(willing, openssl.ask(willing.port, psk, options))
    refused = openssl.ask(serve().port, psk, options)
    assert refused.answer == b""
    assert re.search("handshake failure|unexpected eof|errno=", refused.complaint)


@pytest.mark.parametrize("suite", ["PSK-NULL-SHA256", "ECDHE-PSK-NULL-SHA256", "PSK-AES128-CBC-SHA"])
def test_suites_without_encryption_are_never_accepted(serve: Serve, psk_path: Path, suite: str) -> None:
    options = ("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    server = serve(legacy_clients=True)
    assert openssl.ask(server.port, load_psk(psk_path).active, options).answer == b""


def test_every_line_of_the_file_is_accepted(serve: Serve, psk_path: Path) -> None:
    server = serve()
    for identity, key in load_psk(psk_path).accepted.items():
        assert_key(server, openssl.ask(server.port, Psk(identity, key), openssl.TLS_1_3))


@pytest.mark.parametrize("options", [openssl.TLS_1_3, openssl.ECDHE_PSK, openssl.LEGACY_CBC], ids=" ".join)
def test_wrong_key_and_unknown_identity_get_nothing(serve: Serve, psk_path: Path, options: Sequence[str]) -> None:
    server = serve(legacy_clients=True)
    psk = load_psk(psk_path).active
    strangers = [Psk(psk.identity, Secret(bytes(range(32)))), Psk("stranger", psk.key), Psk("", psk.key)]
    for stranger in strangers:
        assert openssl.ask(server.port, stranger, options).answer == b""
    assert_key(server, openssl.ask(server.port, psk, options))


def test_no_session_tickets_are_given(serve: Serve, psk_path: Path) -> None:
    psk = load_psk(psk_path).active
    port = serve().port
    for options in (openssl.TLS_1_3, openssl.ECDHE_PSK):
        exchange = openssl.ask(port, psk, (*options, "-msg"), expect=1_000_000, question=b"\x09\x09\x00\x00")
        transcript = exchange.answer.decode(errors="replace")
        assert "Finished" in transcript
        assert "NewSessionTicket" not in transcript


@pytest.mark.parametrize("options", [("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_2",), ("-tls1_3",)])
def test_client_without_a_psk_gets_nothing(serve: Serve, options: Sequence[str]) -> None:
    port = serve(legacy_clients=True).port
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", *options]
    done = subprocess.run(command, input=openssl.KEY_REQUEST, capture_output=True, timeout=10, check=False)
    assert done.returncode != 0
    assert done.stdout == b""


def assert_key(server: KeyServer, exchange: openssl.Exchange) -> None:
    """Check the 132 bytes of the answer: header, `fe fd` and 46 random bytes, 16 zeros, and the two randoms."""
    answer = exchange.answer
    assert len(answer) == 132, exchange.complaint
    assert answer[:4] == b"\x01\x01\x00\x80"
    assert answer[4:6] == b"\xfe\xfd"
    assert answer[52:68] == bytes(16)
    assert len(set(answer[6:52])) > 10
    key = server.key
    assert answer[4:] == key.pms.reveal() + key.server_random + key.client_random
