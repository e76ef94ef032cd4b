"""The scenarios of the laboratory: one file for each, and a line in the table below."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.lab.scenarios import (
    boot,
    cut,
    idle,
    join,
    kill,
    lossy,
    member,
    mixed,
    pause,
    power,
    rekey,
    restart,
    soak,
    split,
    storm,
    switchover,
    terminate,
    upgrade,
)
from tests.lab.scenarios.scenario import Scenario

SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "boot": Scenario(boot.run, nodes=10, runs=10),
        "join": Scenario(join.run, nodes=5, runs=10),
        "rekey": Scenario(rekey.run, nodes=10, runs=200, keeps_group=True, may_keep_group=True),
        "kill": Scenario(kill.run, nodes=5, runs=20, may_keep_group=True),
        "terminate": Scenario(terminate.run, nodes=5, runs=20, may_keep_group=True),
        "switchover": Scenario(switchover.run, nodes=5, runs=20, may_keep_group=True),
        "restart": Scenario(restart.run, nodes=5, runs=10, may_keep_group=True),
        "member": Scenario(member.run, nodes=5, runs=10, may_keep_group=True),
        "storm": Scenario(storm.run, nodes=9, runs=5, may_keep_group=True),
        "power": Scenario(power.run, nodes=10, runs=5),
        "idle": Scenario(idle.run, nodes=5, runs=1, seconds=10.0),
        "cut": Scenario(cut.run, nodes=5, runs=10),
        "pause": Scenario(pause.run, nodes=5, runs=3, seconds=30.0),
        "split": Scenario(split.run, nodes=5, runs=5),
        "soak": Scenario(soak.run, nodes=5, runs=1, seconds=300.0),
        "upgrade": Scenario(upgrade.run, nodes=5, runs=3),
        "mixed": Scenario(mixed.run, nodes=5, runs=1, seconds=300.0),
        "lossy": Scenario(lossy.run, nodes=5, runs=1, seconds=60.0, needs_traffic=True),
    }
)
