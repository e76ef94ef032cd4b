"""The ways between hosts: cuts of one way, splits into any sets, barriers for TCP, and their mending."""

from collections.abc import Callable, Iterable

from tests.sim.host import Host

SMALL = 600
"""Bytes of the largest message that a narrow way lets through: heartbeats, JOIN and MERGE, but not GROUP."""


class Reach:
    """The ways between hosts. `changed` are called after each change."""

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = hosts
        self._cut: set[tuple[Host, Host]] = set()
        self._without_tcp: set[tuple[Host, Host]] = set()
        self._narrow: set[tuple[Host, Host]] = set()
        self._narrower: set[tuple[Host, Host]] = set()
        """Ways on which not even the first message of a handshake passes, but that of TCP and small messages do."""
        self._sides: dict[Host, frozenset[Host]] = {}
        self.changed: list[Callable[[], None]] = []

    def passes(self, a: Host, b: Host) -> bool:
        """Return whether packets of `a` reach `b`."""
        return not self._cut or (a, b) not in self._cut

    def carries(self, a: Host, b: Host, size: int) -> bool:
        """Return whether a message of `size` bytes of `a` reaches `b` over TCP."""
        way = (a, b)
        return self.passes(a, b) and way not in self._without_tcp and (size <= SMALL or way not in self._narrow)

    def shakes_hands(self, a: Host, b: Host) -> bool:
        """Return whether a handshake passes that `a` begins."""
        return (a, b) not in self._narrower

    def connects(self, a: Host, b: Host) -> bool:
        """Return whether two hosts can open a session."""
        return self.carries(a, b, 0) and self.carries(b, a, 0)

    def both_ways(self, a: Host, b: Host) -> bool:
        """Return whether two hosts hear each other, and all messages of their sessions pass."""
        return self.carries(a, b, SMALL + 1) and self.carries(b, a, SMALL + 1)

    def side(self, host: Host) -> frozenset[Host]:
        """Return the hosts that a host hears and that hear it, itself included; the empty set if nothing is cut."""
        if not self._cut and not self._without_tcp and not self._narrow:
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

    def bar_tcp(self, a: Host, b: Host) -> None:
        """Let no TCP pass from `a` to `b`. Adverts and datagrams pass."""
        self._without_tcp.add((a, b))
        self._notify()

    def narrow(self, host: Host) -> None:
        """Let only small messages pass from and to a host."""
        self._narrow |= {way for other in self._hosts for way in ((host, other), (other, host))}
        self._notify()

    def narrow_handshakes(self, host: Host) -> None:
        """Let only small messages pass from a host, and no handshake that it begins."""
        ways = {(host, other) for other in self._hosts}
        self._narrow |= ways
        self._narrower |= ways
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
        for barrier in (self._cut, self._without_tcp, self._narrow, self._narrower):
            barrier.clear()
        self._notify()

    def _notify(self) -> None:
        self._sides.clear()
        for listener in self.changed:
            listener()
