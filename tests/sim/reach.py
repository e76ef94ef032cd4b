"""Who can reach whom: cuts of one way, splits into any sets, and their mending."""

from collections.abc import Callable, Iterable

from tests.sim.host import Host


class Reach:
    """The ways between hosts. `changed` are told after each change."""

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = hosts
        self._cut: set[tuple[Host, Host]] = set()
        self._sides: dict[Host, frozenset[Host]] = {}
        self.changed: list[Callable[[], None]] = []

    def passes(self, a: Host, b: Host) -> bool:
        """Tell whether what `a` sends comes to `b`."""
        return not self._cut or (a, b) not in self._cut

    def both_ways(self, a: Host, b: Host) -> bool:
        """Tell whether two hosts hear each other."""
        return self.passes(a, b) and self.passes(b, a)

    def side(self, host: Host) -> frozenset[Host]:
        """Return whom a host hears and is heard by, itself included. Two with the same side share every fate."""
        if not self._cut:
            return frozenset()
        side = self._sides.get(host)
        if side is None:
            side = frozenset(h for h in self._hosts if h is host or self.both_ways(h, host))
            self._sides[host] = side
        return side

    def sever(self, a: Host, b: Host) -> None:
        """Cut the way from `a` to `b` (not back)."""
        self._cut.add((a, b))
        self._tell()

    def split(self, *sets: Iterable[Host]) -> None:
        """Part each set from the others, and all of them from the hosts in none, both ways."""
        number = {host: n for n, one in enumerate(sets) for host in one}
        for a in self._hosts:
            for b in self._hosts:
                if number.get(a) != number.get(b):
                    self._cut.add((a, b))
        self._tell()

    def heal(self) -> None:
        """Mend every cut."""
        self._cut.clear()
        self._tell()

    def _tell(self) -> None:
        self._sides.clear()
        for told in self.changed:
            told()
