"""Each guarantee can fail: a node is wrong on purpose, and the explorer finds the shortest way to where that shows."""

import pytest

from pskkey.core.node import Node
from tests.explore import broken
from tests.explore.search import Search
from tests.explore.show import show
from tests.explore.situations import SITUATIONS

STATES = 3000
"""So many are enough to find each of them."""


@pytest.mark.parametrize(
    ("make_node", "situation", "guarantee"),
    [
        (broken.ForgetsItsTerm, "failover", "terms"),
        (broken.RunsAhead, "join", "members"),
        (broken.MixesUpEpochs, "rekey", "epochs"),
        (broken.GrantsTwice, "join", "sender ids"),
        (broken.DropsTooSoon, "rekey", "readable"),
        (broken.MiscountsAcknowledgements, "rekey", "activation"),
        (broken.RepeatsAnEpoch, "join", "key states"),
        (broken.SpeaksToTheDead, "failover", "open sessions"),
        (broken.Spins, "join", "waits"),
        (broken.GivesUp, "switchover", "waits"),
        (broken.Fails, "rekey", "no exception"),
        (broken.HearsNobody, "merge", "converges"),
    ],
)
def test_a_node_that_is_wrong_is_found(make_node: type[Node], situation: str, guarantee: str) -> None:
    search = Search(next(s for s in SITUATIONS if s.name == situation), make_node)
    fault = search.explore(STATES, runs=5).fault
    assert fault is not None
    assert fault.guarantee == guarantee
    *_, last = [line for line in show(fault.trace, make_node) if "BROKEN" in line]
    assert last.endswith(fault.text)
