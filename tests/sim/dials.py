"""The attempts of hosts to connect, from a `Connect` to the session or its failure.

A handshake succeeds if the server accepts the PSK that was the client's active one when it began.

With a `Processor` at both ends a handshake costs time. The kernel of the server opens TCP at once. Then the handshake
waits in the queue of the process, and costs the server its share, whether the client still waits or not. Then the
client pays its share, and has the session. The handshakes that a server pays for a client that has given up meanwhile,
or has been faster at another address, are counted in `abandoned`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pskkey.core.actions import PATIENCE_FOR_HANDSHAKE, STAGGER, Connect
from pskkey.core.events import Disconnected, Event, OtherNodeAnswered, Session
from tests.sim.host import Conditions, Host
from tests.sim.processor import Processor
from tests.sim.reach import Reach
from tests.sim.schedule import Schedule

REFUSED = "connection refused"
RESET = "the connection was reset in the handshake"
UNKNOWN_PSK = "it does not know our PSK"
WRONG_NODE = "another node answers at this address"
RETRY_CONNECT = 0.1
"""Seconds after which a SYN without an answer is sent again."""
_CODES = {UNKNOWN_PSK: "handshake", RESET: "handshake", WRONG_NODE: "wrong_node", REFUSED: "refused"}
"""The codes of the failures of an address, first those that explain the most."""


@dataclass(eq=False)
class Dial:
    """An attempt of a host to connect. `waiting`: the addresses that it has not tried yet."""

    host: Host
    incarnation: int
    action: Connect
    waiting: list[str]
    latest_open: float
    """When TCP must be open."""
    psk: str
    """The PSK that was active when it began."""
    refusals: list[str] = field(default_factory=list)
    """Why each address that has failed did so."""
    is_open: bool = False
    has_failed: bool = False
    silent: dict[str, float] = field(default_factory=dict)
    """The addresses at which TCP is open and the handshake not over, and since when."""
    paid: list[Host] = field(default_factory=list)
    """The servers that have paid for a handshake, one entry for each handshake."""

    @property
    def is_over(self) -> bool:
        """Whether it has succeeded or failed, or its process is gone."""
        return self.is_open or self.has_failed or self.host.incarnation != self.incarnation

    @property
    def gives_up(self) -> float:
        """When it ends. A handshake that is under way has its time, but several do not add up."""
        ends = [self.latest_open, *(since + self.action.patience for since in self.silent.values())]
        return min(max(ends), self.latest_open + self.action.patience)

    @property
    def busy_until(self) -> float:
        """Until when no other address is tried, because TCP is open at one."""
        return max((since + PATIENCE_FOR_HANDSHAKE for since in self.silent.values()), default=0.0)

    @property
    def code_when_late(self) -> str:
        """The code of its failure when its time is over."""
        codes = {_CODES[refusal] for refusal in self.refusals}
        if "handshake" in codes:
            return "handshake"
        if self.silent:
            return "no_handshake"
        return "wrong_node" if "wrong_node" in codes else "timeout"


@dataclass(eq=False)
class _Handshake:
    """A handshake that costs time, of a dial with the process `incarnation` of a server."""

    dial: Dial
    server: Host
    incarnation: int
    address: str


class Dials:
    """All attempts to connect. `opened` is called with the dial, the server and its address when one succeeds."""

    def __init__(
        self,
        schedule: Schedule,
        hosts: list[Host],
        reach: Reach,
        conditions: Conditions,
        give: Callable[[Host, Event], None],
        opened: Callable[[Dial, Host, str], None],
        addresses_of_strangers: set[str],
    ) -> None:
        self._schedule = schedule
        self._hosts = hosts
        self._reach = reach
        self._conditions = conditions
        self._give = give
        self._opened = opened
        self._addresses_of_strangers = addresses_of_strangers
        self._dials: dict[tuple[Host, Session], Dial] = {}
        """The attempts with handshakes that cost time, until they are over."""
        self._at_servers: dict[Host, dict[_Handshake, None]] = {}
        """By server, the handshakes that its kernel has accepted and that are not over."""
        self.handshakes: Counter[Host] = Counter()
        """By server, the handshakes that it has paid for."""
        self.abandoned: Counter[Host] = Counter()
        """By server, those of them that nobody waited for."""

    def begin(self, host: Host, action: Connect) -> None:
        """Try the addresses one after the other, each beside the former attempts, until one answers."""
        latest_open = self._schedule.now + action.timeout
        dial = Dial(host, host.incarnation, action, list(action.addresses), latest_open, host.psks[0])
        if host.processor is not None:
            self._dials[host, action.session] = dial
        if action.addresses:
            self._schedule.at(latest_open, partial(self._time_out, dial))
            self._try_next(dial)
        else:
            self._schedule.at(self._schedule.now, partial(self._fail, dial, "the peer has no address", "no_address"))

    def cancel(self, host: Host, session: Session) -> None:
        """End an attempt without an event, if its handshake costs time."""
        dial = self._dials.get((host, session))
        if dial is not None and not dial.is_over:
            dial.has_failed = True
            self._close(dial)

    def end_process(self, host: Host) -> None:
        """Reset the connections that the kernel of a host has accepted for a process that has ended."""
        for dial in [dial for (client, _), dial in self._dials.items() if client is host]:
            del self._dials[host, dial.action.session]
        for handshake in self._at_servers.pop(host, {}):
            if host in handshake.dial.paid:
                handshake.dial.paid.remove(host)
            if not host.is_off:
                refuse = partial(self._refuse, handshake.dial, handshake.address, RESET)
                self._schedule.at(self._schedule.now + self._delay(), refuse)

    # --- addresses ----------------------------------------------------------------------------------------------

    def _try_next(self, dial: Dial) -> None:
        if dial.is_over or not dial.waiting:
            return
        address = dial.waiting.pop(0)
        # TCP and TLS take two round trips before the server knows of a session.
        self._schedule.at(self._schedule.now + sum(self._delay() for _ in range(4)), partial(self._try, dial, address))
        if dial.waiting:
            self._schedule.at(self._schedule.now + STAGGER, partial(self._try_staggered, dial, len(dial.waiting)))

    def _try_staggered(self, dial: Dial, waiting: int) -> None:
        if self._schedule.now < dial.busy_until:
            self._schedule.at(dial.busy_until, partial(self._try_staggered, dial, waiting))
            return
        if len(dial.waiting) == waiting:  # else an attempt failed, and the next one began at once
            self._try_next(dial)

    def _try(self, dial: Dial, address: str) -> None:
        if dial.is_over:
            return
        host, now = dial.host, self._schedule.now
        if address in self._addresses_of_strangers:
            self._schedule.at(now + self._delay(), partial(self._answer_as_other_node, dial, address))
            return
        target = self._find_target(host, address)
        if target is not None and self._reach.connects(host, target):
            if target.program is None and not target.is_off:
                reason = RESET if address in dial.silent else REFUSED
                self._schedule.at(now + self._delay(), partial(self._refuse, dial, address, reason))
                return
            if not target.is_off:
                dial.silent.setdefault(address, now)
            if target.processor is not None and host.processor is not None and not target.is_off:
                if self._reach.shakes_hands(host, target):
                    self._reach_server(dial, target, target.processor, address)
                return
            answers = target.is_responsive and self._reach.shakes_hands(host, target)
            if answers and dial.psk not in target.psks:
                self._schedule.at(now + self._delay(), partial(self._refuse, dial, address, UNKNOWN_PSK))
                return
            if answers and target.member.id != dial.action.peer:
                self._schedule.at(now + self._delay(), partial(self._answer_as_other_node, dial, address))
                return
            if answers:
                dial.is_open = True
                self._opened(dial, target, address)
                return
        self._schedule.at(now + RETRY_CONNECT, partial(self._try, dial, address))

    def _find_target(self, host: Host, address: str) -> Host | None:
        """Return the host that an address leads to from `host`; None: it leads nowhere.

        Several hosts may have an address, each in a network of its own. Then the address leads to the host itself if it
        has it, else to the host that follows it.
        """
        owners = [h for h in self._hosts if h.is_reached_at(address)]
        if len(owners) < 2:
            return owners[0] if owners else None
        place = self._hosts.index(host)
        return min(owners, key=lambda owner: (self._hosts.index(owner) - place) % len(self._hosts))

    # --- handshakes that cost time ------------------------------------------------------------------------------

    def _reach_server(self, dial: Dial, server: Host, processor: Processor, address: str) -> None:
        handshake = _Handshake(dial, server, server.incarnation, address)
        self._at_servers.setdefault(server, {})[handshake] = None
        processor.add_handshake(partial(self._pay_as_server, handshake))

    def _pay_as_server(self, handshake: _Handshake) -> None:
        dial, server = handshake.dial, handshake.server
        self.handshakes[server] += 1
        if dial.is_over:
            self._leave(handshake)
            self.abandoned[server] += dial.is_open or dial.has_failed
            return
        when = self._schedule.now + self._delay()
        if dial.psk not in server.psks:
            self._leave(handshake)
            self._schedule.at(when, partial(self._refuse, dial, handshake.address, UNKNOWN_PSK))
        else:
            dial.paid.append(server)
            self._schedule.at(when, partial(self._reach_client, handshake))

    def _reach_client(self, handshake: _Handshake) -> None:
        dial = handshake.dial
        if dial.is_over or dial.host.processor is None or not self._reach.connects(dial.host, handshake.server):
            return
        dial.host.processor.add_handshake(partial(self._pay_as_client, handshake))

    def _pay_as_client(self, handshake: _Handshake) -> None:
        dial, server = handshake.dial, handshake.server
        if dial.is_over or server.incarnation != handshake.incarnation:
            return  # in the second case the kernel of the server has reset the connection
        self._leave(handshake)
        dial.paid.remove(server)
        if server.member.id != dial.action.peer:
            self._answer_as_other_node(dial, handshake.address)
            return
        dial.is_open = True
        self._close(dial)
        self._opened(dial, server, handshake.address)

    def _close(self, dial: Dial) -> None:
        """Count the handshakes of a dial that is over and that it does not need."""
        self.abandoned.update(dial.paid)
        dial.paid.clear()
        self._dials.pop((dial.host, dial.action.session), None)

    def _leave(self, handshake: _Handshake) -> None:
        self._at_servers.get(handshake.server, {}).pop(handshake, None)

    # --- the end of an attempt ----------------------------------------------------------------------------------

    def _time_out(self, dial: Dial) -> None:
        if dial.is_over:
            return
        if self._schedule.now < dial.gives_up:  # TCP has opened, so the patience counts
            self._schedule.at(dial.gives_up, partial(self._time_out, dial))
        elif dial.host.processor is None:
            self._fail(dial, "no answer", dial.code_when_late)
        else:
            dial.host.processor.add(0.0, partial(self._fail, dial, "no answer", dial.code_when_late))

    def _answer_as_other_node(self, dial: Dial, address: str) -> None:
        if not dial.is_over:
            self._give(dial.host, OtherNodeAnswered(dial.action.peer, address))
            self._refuse(dial, address, WRONG_NODE)

    def _refuse(self, dial: Dial, address: str, reason: str) -> None:
        dial.silent.pop(address, None)
        dial.refusals.append(reason)
        if len(dial.refusals) == len(dial.action.addresses):
            first = min(dial.refusals, key=list(_CODES).index)
            self._fail(dial, first, _CODES[first])
        elif self._schedule.now >= dial.gives_up:
            self._fail(dial, "no answer", dial.code_when_late)
        else:
            self._try_next(dial)

    def _fail(self, dial: Dial, reason: str, code: str = "timeout") -> None:
        if not dial.is_over:
            dial.has_failed = True
            self._close(dial)
            self._give(dial.host, Disconnected(dial.action.session, reason, code))

    def _delay(self) -> float:
        return self._schedule.random.uniform(*self._conditions.delay)
