"""Each sentence of "Security in short" in the README has tests that hold it."""

import ast
import re
from functools import cache
from typing import Final

import pytest

from tests.quality.tracked import ROOT

HELD_BY: Final[dict[str, tuple[str, ...]]] = {
    "A stranger cannot fetch the group key": (
        "tests/keyserver/test_server_with_openssl.py::test_wrong_key_and_unknown_identity_get_nothing",
        "tests/keyserver/test_server_with_openssl.py::test_client_without_a_psk_gets_nothing",
        "tests/keyserver/test_client.py::test_server_with_a_certificate_gets_nothing",
        "tests/system/test_strangers.py::test_forged_adverts_change_only_a_counter",
        "tests/system/test_auditing.py::test_failed_authentications_are_events_with_their_address_identity_and_number",
        "tests/hosts/test_auditing.py::test_query_of_the_manual_lists_the_failed_authentications_of_today",
    ),
    "A node distinguishes a fresh advert": (
        "tests/core/test_freshness.py::test_recorded_adverts_postpone_the_claim_by_a_third_of_a_second_at_most",
        "tests/core/test_freshness.py::test_a_recorded_advert_of_a_newer_term_does_not_end_the_succession",
        "tests/core/test_freshness.py::test_proven_rival_is_asked_at_once_and_a_recorded_one_seldom_and_without_a_report",
        "tests/core/test_freshness.py::test_a_clone_is_reported_only_with_a_proof",
        "tests/system/test_discovery.py::test_a_goodbye_has_no_effect",
        "tests/hostile/test_replayer.py::test_a_group_stays_one_under",
    ),
    "The cost of a stranger's packets is bounded": (
        "tests/system/test_mdns_gate.py::test_flood_of_one_source_is_bounded",
        "tests/system/test_mdns_gate.py::test_flood_of_many_sources_is_bounded",
        "tests/system/test_mdns_gate.py::test_questions_are_answered_and_answers_bounded",
        "tests/daemon/test_log_budget.py::test_600_strangers_cause_10_lines_in_10_seconds_and_40_in_a_minute",
        "tests/daemon/test_repeated_events.py::test_entries_of_a_minute_are_bounded_and_their_numbers_add_up",
        "tests/system/test_auditing.py::test_flood_of_failed_authentications_leaves_few_entries_that_count_all",
        "tests/hostile/test_stranger.py::test_a_group_stays_one_under",
        "tests/adapters/tls/test_storm.py::test_flood_of_one_address_does_not_lock_another_out",
    ),
    "Nodes speak TLS 1.3": (
        "tests/keyserver/test_server_with_openssl.py::test_plain_psk_suites_are_for_legacy_clients_only",
        "tests/keyserver/test_server_with_openssl.py::test_no_session_tickets_are_given",
        "tests/keyserver/test_legacy_server.py::test_client_takes_the_key_of_an_older_server_only_with_legacy_server",
        "tests/keyserver/test_legacy_server.py::test_attacker_on_the_way_cannot_choose_a_weaker_suite",
    ),
    "Multicast is encrypted and authenticated": (
        "tests/mcast/test_record.py::test_refuses_every_bit_flip_and_every_truncation",
        "tests/mcast/test_record.py::test_reproduces_and_opens_every_record_of_wolfssl",
    ),
    "A session manager that starts without its earlier state accepts no recorded datagram": (
        "tests/mcast/test_session.py::test_records_from_before_a_session_began_are_not_delivered_to_it",
        "tests/mcast/test_join.py::test_session_without_a_new_key_receives_with_the_key_in_use_and_logs_it",
        "tests/hostile/test_records.py::test_a_restarted_receiver_accepts_no_recorded_datagram",
    ),
    "A stranger can read the adverts": (
        "tests/config/test_weak_keys.py::test_key_that_a_person_made_up_is_refused",
        "tests/config/test_weak_keys.py::test_key_of_a_generator_is_accepted",
    ),
    "An insider can become master": (
        "tests/system/test_strangers.py::test_the_same_claim_counts_when_it_is_signed_with_the_psk",
    ),
    "An insider cannot stop the group": (
        "tests/system/test_floods.py::test_eight_floods_of_an_insider_do_not_depose_the_master",
        "tests/core/test_admission.py::test_address_has_its_share_of_the_sender_ids_with_those_of_nodes_that_left",
        "tests/core/test_admission.py::test_address_has_its_share_of_the_places_and_a_member_that_left_is_soon_forgotten",
        "tests/system/test_insiders.py::test_a_session_that_joins_as_another_node_ends_and_has_got_one_lease",
        "tests/core/test_discovery_and_claim.py::test_invented_better_candidates_postpone_a_claim_for_less_than_two_seconds",
        "tests/hostile/test_insider.py::test_a_group_stays_one_under",
    ),
    "An insider with many addresses": (
        "tests/core/test_discovery_and_claim.py::test_adverts_under_a_former_psk_are_forgotten",
        "tests/core/test_admission.py::test_new_key_frees_the_sender_ids_of_nodes_that_left",
    ),
    "Only root, the daemon's user": (
        "tests/hosts/test_access.py::test_a_stranger_can_connect_to_neither_socket",
        "tests/hosts/test_access.py::test_a_member_does_not_administer",
        "tests/config/test_psk.py::test_file_that_handoff_users_may_read_is_refused",
    ),
    "A user with access cannot delay the daemon": (
        "tests/system/test_floods.py::test_flood_on_200_connections_to_keys_sock_keeps_no_other_waiting",
        "tests/adapters/local/test_key_socket_places.py::test_root_finds_a_place_whatever_others_take",
        "tests/core/test_rekey_pace.py::test_requester_that_asks_every_second_is_served_at_once_and_then_less_and_less_often",
        "tests/core/test_rekey_pace.py::test_the_requests_of_others_are_not_delayed",
        "tests/hostile/test_local_user.py::test_a_group_stays_one_under",
    ),
    "Nobody can take the port of the key server": (
        "tests/system/test_key_port.py::test_nobody_takes_the_port_between_two_starts_and_connections_are_refused",
        "tests/system/test_key_port.py::test_daemon_without_the_port_is_a_client_until_it_gets_the_port",
    ),
    "Keys are in memory only": (
        "tests/system/test_retired_keys.py::test_a_retired_key_leaves_no_copy",
        "tests/system/test_no_secrets.py::test_a_crash_leaves_no_core_dump",
    ),
    "No secret is in a log": (
        "tests/system/test_no_secrets.py::test_no_output_of_a_daemon_holds_a_secret",
        "tests/config/test_psk.py::test_mistake_is_reported_with_its_line_number_and_without_content",
    ),
}
"""The first words of each sentence or group of sentences, and the tests."""


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the test functions in a file."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_each_sentence_has_its_tests() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("## Security in short")[2].partition("\nHow it works inside")[0]
    items = [" ".join(item.split()) for item in re.findall(r"(?ms)^- (.*?)(?=^- |^\*\*|^$)", section)]
    assert len(items) == len(HELD_BY)
    for item, begins in zip(items, HELD_BY, strict=True):
        assert item.startswith(begins)


@pytest.mark.parametrize("named", sorted({name for names in HELD_BY.values() for name in names}))
def test_a_named_test_is_there(named: str) -> None:
    path, _, name = named.partition("::")
    assert name in names_in(path)
