"""The list of conditions: each has one beginning and one end, and those about peers settle first."""

from pskkey.daemon.conditions import SETTLES, ConditionList
from pskkey.model import Condition, ConditionKind

PORT = Condition(ConditionKind.NO_KEY_SERVER, "no key server", "stop the other program")
FAR = Condition(ConditionKind.MASTER_UNREACHABLE, "cannot join far", "open the port", "1" * 32, "10.0.0.1")


class Reported:
    """A list of conditions with a clock, and its reports."""

    def __init__(self) -> None:
        self.now = 100.0
        self.log: list[tuple[str, bool]] = []
        self.list = ConditionList(lambda condition, begins: self.log.append((condition.text, begins)), lambda: self.now)

    def find(self, *conditions: Condition, after: float = 0.0) -> list[str]:
        """Let time pass, then find these conditions; return the texts that are listed."""
        self.now += after
        self.list.update(conditions)
        return [row["text"] for row in self.list.rows()]


def test_condition_of_this_machine_is_listed_at_once_and_has_one_beginning_and_one_end() -> None:
    reported = Reported()
    assert reported.find(PORT) == ["no key server"]
    assert reported.find(PORT, after=60.0) == ["no key server"]
    assert reported.list.rows()[0]["since_s"] == 60.0
    assert reported.find() == []
    assert reported.log == [("no key server", True), ("no key server", False)]


def test_condition_about_a_peer_is_listed_only_after_it_has_lasted() -> None:
    reported = Reported()
    assert reported.find(FAR) == []
    assert reported.find(FAR, after=SETTLES / 2) == []
    assert reported.find(FAR, after=SETTLES / 2) == ["cannot join far"]
    assert reported.log == [("cannot join far", True)]


def test_short_condition_about_a_peer_is_not_reported() -> None:
    reported = Reported()
    reported.find(FAR)
    reported.find(after=SETTLES / 2)
    reported.find(FAR, after=SETTLES / 2)
    reported.find(after=SETTLES / 2)
    assert reported.log == []


def test_changed_text_of_a_condition_is_shown_and_is_no_new_beginning() -> None:
    reported = Reported()
    reported.find(FAR)
    reported.find(FAR, after=SETTLES)
    other = Condition(FAR.kind, "cannot join far: refused", FAR.remedy, FAR.peer)
    assert reported.find(other, after=1.0) == ["cannot join far: refused"]
    assert len(reported.log) == 1


def test_conditions_of_two_peers_are_two() -> None:
    reported = Reported()
    near = Condition(FAR.kind, "cannot join near", FAR.remedy, "2" * 32)
    reported.find(FAR, near)
    assert reported.find(FAR, near, after=SETTLES) == ["cannot join far", "cannot join near"]
    assert reported.find(near) == ["cannot join near"]
