"""What the laboratory can do: one file for each scenario, and a line in the table below."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.lab.scenarios import boot, join, kill
from tests.lab.scenarios.scenario import Scenario

SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "boot": Scenario(boot.run, nodes=10, runs=10),
        "join": Scenario(join.run, nodes=5, runs=10),
        "kill": Scenario(kill.run, nodes=5, runs=10),
    }
)
