"""The ways between hosts: cuts of one way, splits into any sets, and their mending."""

from collections.abc import Callable, Iterable

from tests.sim.host import Host


class Reach:
    """The ways between hosts. `changed` are called after each change."""

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = hosts
        self._cut: set[tuple[Host, Host]] = set()
        self._sides: dict[Host, frozenset[Host]] = {}
        self.changed: list[Callable[[], None]] = []

    def passes(self, a: Host, b: Host) -> bool:
        """Return whether packets of `a` reach `b`."""
        return not self._cut or (a, b) not in self._cut

    def both_ways(self, a: Host, b: Host) -> bool:
        """Return whether two hosts hear each other."""
        return self.passes(a, b) and self.passes(b, a)

    def side(self, host: Host) -> frozenset[Host]:
        """Return the hosts that a host hears and that hear it, itself included; the empty set if nothing is cut."""
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
        self._notify()

    def split(self, *sets: Iterable[Host]) -> None:
        """Cut each set off from the others, and all sets off from the hosts in none, both ways."""
        number = {host: n for n, one in enumerate(sets) for host in one}
        for a in self._hosts:
            for b in self._hosts:
                if number.get(a) != number.get(b):
                    self._cut.add((a, b))
        self._notify()

    def heal(self) -> None:
        """Mend every cut."""
        self._cut.clear()
        self._notify()

    def _notify(self) -> None:
        self._sides.clear()
        for listener in self.changed:
            listener()
