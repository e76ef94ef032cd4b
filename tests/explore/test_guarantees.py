"""Each check can fail: the explorer finds the shortest way to the defect of a node that a test makes on purpose."""

import pytest

from pskkey.core.node import Node
from tests.explore import broken
from tests.explore.search import Search
from tests.explore.show import show
from tests.explore.situations import SITUATIONS

STATES = 3000
"""Enough states to find each defect."""


@pytest.mark.parametrize(
    ("make_node", "situation", "guarantee"),
    [
        (broken.ForgetsItsTerm, "failover", "terms"),
        (broken.RunsAhead, "join", "members"),
        (broken.MixesUpEpochs, "rekey", "epochs"),
        (broken.LeasesTwice, "join", "sender ids"),
        (broken.DropsTooSoon, "rekey", "readable"),
        (broken.MiscountsAcknowledgements, "rekey", "activation"),
        (broken.RepeatsAnEpoch, "join", "key states"),
        (broken.SendsOnClosedSession, "failover", "open sessions"),
        (broken.Spins, "join", "waits"),
        (broken.GivesUp, "switchover", "waits"),
        (broken.Fails, "rekey", "no exception"),
        (broken.IgnoresAdverts, "merge", "converges"),
    ],
)
def test_defective_node_is_found(make_node: type[Node], situation: str, guarantee: str) -> None:
    search = Search(next(s for s in SITUATIONS if s.name == situation), make_node)
    fault = search.explore(STATES, runs=5).fault
    assert fault is not None
    assert fault.guarantee == guarantee
    *_, last = [line for line in show(fault.trace, make_node) if "BROKEN" in line]
    assert last.endswith(fault.text)
