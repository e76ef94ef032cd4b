"""The moves that are possible in a state, and the state after each of them.

A move is one of:

    a12.0     the first of the adverts that are on their way from device 1 to device 2 arrives (.1: the second)
    a12.0*    it arrives, and will arrive again
    2.1.3+    session 3 of the first process of device 2 is open at both ends
    2.1.3-    the attempt to open it is refused, or no answer comes in time
    2.1.3>    the server receives the first packet of its queue
    2.1.3<    the client receives the first packet of its queue
    2.1.3!    the session breaks
    t2        time passes until the deadline of device 2, and it is called
    x2  p2    its daemon dies; it loses its power
    s2        its daemon starts
    r2  w2    its operator asks for a new key, for another master

A move has a cost, which it adds to the depth (`Cost`).

Time passes only by `t` and by the end of an attempt, up to the earliest of all deadlines. LATENESS lets a device that
is due a moment later go first. Every other move takes no time, and any number of `t` may precede it. So each move
may be late by any time.

A device whose daemon is dead refuses a session at once. A device without power does not answer. A heartbeat that has
become the first of its queue arrives with the move before. So a peer is silent if a packet before the heartbeat does
not arrive, if a broken session has not been noticed, or if the power is lost.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from pskkey.core.events import Direction, Session
from pskkey.model import Heartbeat, Role
from pskkey.wire.packet import encode
from tests.explore.device import Facts, Input, Output, member
from tests.explore.guarantees import check_use
from tests.explore.snapshot import value_of
from tests.explore.state import (
    DEVICES,
    ENDED,
    KEPT_ADVERTS,
    PAIRS,
    Air,
    Local,
    Place,
    State,
    Stream,
    find_stream,
    spend,
    stream_of,
    with_air,
    with_end_closed,
    with_packet,
    with_stream,
    without_power,
)

LATENESS: Final = 20_000
"""A device may be called this many microseconds after its deadline, so that another one goes first."""

HEARTBEAT: Final = encode(Heartbeat())


class Move(NamedTuple):
    """One move. `at`: the number of a device, the name of a session, or a pair and the place of an advert."""

    what: str
    at: tuple[int, ...]

    def __str__(self) -> str:
        if self.what in "a*":
            pair, which = PAIRS[self.at[0]], self.at[1]
            return f"a{pair[0] + 1}{pair[1] + 1}.{which}{self.what.strip('a')}"
        if len(self.at) == 1:
            return f"{self.what}{self.at[0] + 1}"
        return f"{self.at[0] + 1}.{self.at[1]}.{self.at[2]}{self.what}"


def parse(text: str) -> Move:
    """Return the move that has this text form. Raises ValueError."""
    if text[0] == "a":
        pair = PAIRS.index((int(text[1]) - 1, int(text[2]) - 1))
        return Move("*" if text[-1] == "*" else "a", (pair, int(text[4])))
    if text[0].isalpha():
        return Move(text[0], (int(text[1:]) - 1,))
    client, incarnation, number = text[:-1].split(".")
    return Move(text[-1], (int(client) - 1, int(incarnation), int(number)))


class Cost(IntEnum):
    """The depth that a move adds. A fault costs most, so that a search follows the group for long after few faults.

    PROMPT: a packet or an advert arrives, a daemon starts; or, if nothing can arrive, time passes.
    LATE: time passes while a packet or an advert could arrive, or an advert overtakes another.
    FAULT: a fault, or a request of an operator.
    """

    PROMPT = 1
    LATE = 3
    FAULT = 4


class Steps(Protocol):
    """Makes the steps of the devices."""

    def step(self, local: Local, age: int, cause: Input) -> tuple[Local, tuple[Output, ...]]:
        """Give a device an input `age` microseconds after its last step."""

    def facts(self, local: Local) -> Facts:
        """Return the visible state of a device."""


class Moves:
    """Makes moves. `notes`: the reports of the nodes since it was cleared, if `keeps_notes`."""

    def __init__(self, steps: Steps, *, keeps_notes: bool = False) -> None:
        self._steps = steps
        self._keeps_notes = keeps_notes
        self.notes: list[str] = []
        self.elapsed = 0
        """The microseconds that have passed in all moves."""

    # --- possible moves -----------------------------------------------------------------------------------------

    def possible_moves(self, state: State, cost: Cost) -> Iterator[Move]:
        """Yield every move of this cost that is possible."""
        match cost:
            case Cost.PROMPT:
                arrivals = list(self._arrivals(state))
                yield from arrivals or self._time_moves(state)
                for number in range(DEVICES):
                    if self._facts(state, number).role is None:
                        yield Move("s", (number,))
            case Cost.LATE:
                for pair, air in enumerate(state.airs):
                    yield from (Move("a", (pair, which)) for which in range(1, len(air.coming)))
                if any(self._arrivals(state)):
                    yield from self._time_moves(state)
            case Cost.FAULT:
                yield from self._faults(state)

    def _arrivals(self, state: State) -> Iterator[Move]:
        for pair, air in enumerate(state.airs):
            if air.coming:
                yield Move("a", (pair, 0))
        for stream in state.streams:
            if stream.expires is not None:
                if self._facts(state, stream.server).role is not None:
                    yield Move("+", stream.key)
                elif self._is_refused(state, stream):
                    yield Move("-", stream.key)
            if stream.to_server:
                yield Move(">", stream.key)
            if stream.to_client:
                yield Move("<", stream.key)

    def _faults(self, state: State) -> Iterator[Move]:
        allowed = state.allowed
        for pair, air in enumerate(state.airs if allowed.repeats else ()):
            for which in range(len(air.coming)):
                yield Move("*", (pair, which))
        for stream in state.streams if allowed.breaks else ():
            if not stream.is_broken and stream.client_is_open and stream.server_is_open:
                yield Move("!", stream.key)
        for number in range(DEVICES):
            role = self._facts(state, number).role
            if role is None:
                continue
            if allowed.crashes:
                yield Move("x", (number,))
            if allowed.power_losses:
                yield Move("p", (number,))
            if allowed.rekeys:
                yield Move("r", (number,))
            if allowed.switchovers and role is Role.MASTER:
                yield Move("w", (number,))

    def _time_moves(self, state: State) -> Iterator[Move]:
        waits = self._waits(state)
        first = min((wait for wait, _ in waits), default=0)
        yield from (move for wait, move in waits if wait <= first + LATENESS)

    def _waits(self, state: State) -> list[tuple[int, Move]]:
        """Return every deadline: the microseconds until then, and the move. A refusal is at once, so it has none."""
        waits = []
        for number, place in enumerate(state.places):
            if (due := self._steps.facts(place.local).due) is not None:
                waits.append((due - place.age, Move("t", (number,))))
        waits.extend(
            (stream.expires, Move("-", stream.key))
            for stream in state.streams
            if stream.expires is not None and not self._is_refused(state, stream)
        )
        return waits

    def in_order(self, state: State) -> tuple[int, Move | None]:
        """Return the next move if nothing is late or lost, and the microseconds until then."""
        arrival = next(self._arrivals(state), None)
        return (0, arrival) if arrival is not None else min(self._waits(state), default=(0, None))

    def _is_refused(self, state: State, stream: Stream) -> bool:
        """Return whether an attempt is refused at once: the daemon is dead, and its device has power."""
        server = self._facts(state, stream.server)
        return server.role is None and server.has_power

    # --- making a move ------------------------------------------------------------------------------------------

    def make(self, state: State, move: Move) -> State:
        """Return the state after a move that is possible. Raises Broken."""
        match move.what:
            case "a" | "*":
                state = self._deliver_advert(state, move.at[0], move.at[1], stays=move.what == "*")
            case "t":
                number = move.at[0]
                due = self._facts(state, number).due
                assert due is not None
                state = self._step(self._wait(state, due - state.places[number].age), number, Input("time"))
            case "s":
                state = self._start(state, move.at[0])
            case "x" | "p":
                state = self._end_processes(state, move.at[0], is_forgotten=move.what == "p")
            case "r":
                state = self._step(spend(state, "rekeys"), move.at[0], Input("rekey"))
            case "w":
                state = self._step(spend(state, "switchovers"), move.at[0], Input("switchover"))
            case _:
                state = self._move_stream(state, stream_of(state, move.at), move.what)
        return self._deliver_heartbeats(state)

    def _move_stream(self, state: State, stream: Stream, what: str) -> State:
        client, server = stream.client, stream.server
        match what:
            case "+":
                state = with_stream(state, stream, stream._replace(expires=None, server_is_open=True))
                state = self._step(state, server, Input("accepted", stream.inbound, member(client + 1).addresses[0]))
                return self._step(state, client, Input("connected", stream.number))
            case "-":
                if not self._is_refused(state, stream):
                    state = self._wait(state, stream.expires or 0)
                    stream = stream_of(state, stream.key)
                return self._step(with_stream(state, stream, None), client, Input("failed", stream.number))
            case ">" | "<":
                return self._receive(state, stream, by_server=what == ">")
            case "!":
                broken = stream._replace(to_server=(ENDED,), to_client=(ENDED,), is_broken=True)
                return with_stream(spend(state, "breaks"), stream, broken)
            case _:
                raise ValueError(what)

    def _receive(self, state: State, stream: Stream, *, by_server: bool) -> State:
        queue = stream.to_server if by_server else stream.to_client
        data, rest = queue[0], queue[1:]
        if by_server:
            after = stream._replace(to_server=rest, server_is_open=data != ENDED)
            cause = Input("left", stream.inbound) if data == ENDED else Input("request", stream.inbound, data)
        else:
            after = stream._replace(to_client=rest, client_is_open=data != ENDED)
            cause = Input("ended", stream.number) if data == ENDED else Input("answer", stream.number, data)
        return self._step(with_stream(state, stream, after), stream.server if by_server else stream.client, cause)

    def _deliver_heartbeats(self, state: State) -> State:
        """Deliver all heartbeats that are, or become, the first of their queue."""
        while True:
            for stream in state.streams:
                if stream.to_server and stream.to_server[0] == HEARTBEAT:
                    state = self._receive(state, stream, by_server=True)
                    break
                if stream.to_client and stream.to_client[0] == HEARTBEAT:
                    state = self._receive(state, stream, by_server=False)
                    break
            else:
                return state

    def _deliver_advert(self, state: State, pair: int, which: int, *, stays: bool) -> State:
        air = state.airs[pair]
        advert = air.coming[which]
        coming = air.coming if stays else air.coming[:which] + air.coming[which + 1 :]
        if stays:
            state = spend(state, "repeats")
        state = with_air(state, pair, air._replace(heard=advert, coming=coming))
        return self._step(state, PAIRS[pair][1], Input("advert", advert))

    def _start(self, state: State, number: int) -> State:
        """Start a daemon. A running master will repeat its advert."""
        for pair, (sender, receiver) in enumerate(PAIRS):
            if receiver == number:
                last_advert = state.announced[sender]
                if last_advert is None or value_of(last_advert).role is not Role.MASTER:
                    state = with_air(state, pair, Air(None, ()))
                else:
                    state = with_air(state, pair, Air(None, (last_advert,)))
        return self._step(state, number, Input("start"))

    def _end_processes(self, state: State, number: int, *, is_forgotten: bool) -> State:
        """End the daemon of a device, or all its processes by a power loss. A kernel with power ends the sessions."""
        state = spend(state, "power_losses" if is_forgotten else "crashes")
        for stream in state.streams:
            if number not in (stream.client, stream.server):
                continue
            if stream.expires is not None:
                if stream.client == number:
                    state = with_stream(state, stream, None)
            elif is_forgotten:
                state = with_stream(state, stream, without_power(stream, number))
            else:
                state = with_stream(state, stream, with_end_closed(stream, at_client=stream.client == number))
        for pair, (_, receiver) in enumerate(PAIRS):
            if receiver == number:
                state = with_air(state, pair, Air())
        state = state._replace(announced=(*state.announced[:number], None, *state.announced[number + 1 :]))
        return self._step(state, number, Input("lose power" if is_forgotten else "die"))

    # --- time and steps -----------------------------------------------------------------------------------------

    def _wait(self, state: State, wait: int) -> State:
        """Let `wait` microseconds pass; none if `wait` is negative."""
        if wait <= 0:
            return state
        self.elapsed += wait
        places = tuple(Place(place.local, place.age + wait) for place in state.places)
        streams = tuple(s if s.expires is None else s._replace(expires=s.expires - wait) for s in state.streams)
        return state._replace(places=places, streams=streams)

    def _step(self, state: State, number: int, cause: Input) -> State:
        place = state.places[number]
        local, outputs = self._steps.step(place.local, place.age, cause)
        places = (*state.places[:number], Place(local, 0), *state.places[number + 1 :])
        facts = self._steps.facts(local)
        uses = state.uses
        if facts.sends is not None and (use := (*facts.sends, facts.context)) not in uses:
            check_use(uses, use)
            uses |= {use}
        state = state._replace(places=places, uses=uses)
        for output in outputs:
            state = self._perform(state, number, output)
        return state

    def _perform(self, state: State, number: int, output: Output) -> State:
        match output.what:
            case "send":
                stream = find_stream(state, number, Session(output.direction, output.number))
                assert isinstance(output.data, bytes)
                return state if stream is None else with_stream(state, stream, with_packet(stream, number, output.data))
            case "close":
                stream = find_stream(state, number, Session(output.direction, output.number))
                if stream is None:
                    return state
                if stream.expires is not None:
                    return with_stream(state, stream, None)
                after = with_packet(stream, number, output.data) if isinstance(output.data, bytes) else stream
                return with_stream(
                    state, stream, with_end_closed(after, at_client=output.direction is Direction.OUTBOUND)
                )
            case "connect":
                assert isinstance(output.data, str)
                server = int(output.data, 16) - 1
                incarnation = self._facts(state, number).incarnation
                stream = Stream(number, incarnation, output.number, server, output.timeout)
                return state._replace(streams=tuple(sorted((*state.streams, stream), key=lambda s: s.key)))
            case "advert":
                return self._announce(state, number, output.number)
            case _:
                if self._keeps_notes:
                    self.notes.append(f"n{number + 1} {output.data!s}")
                return state

    def _announce(self, state: State, number: int, advert: int) -> State:
        state = state._replace(announced=(*state.announced[:number], advert, *state.announced[number + 1 :]))
        for pair, (sender, receiver) in enumerate(PAIRS):
            if sender == number and self._facts(state, receiver).role is not None:
                air = state.airs[pair]
                is_news = air.coming or air.heard != advert or value_of(advert).role is Role.LISTENING
                if is_news and advert not in air.coming:
                    state = with_air(state, pair, air._replace(coming=(*air.coming, advert)[-KEPT_ADVERTS:]))
        return state

    def _facts(self, state: State, number: int) -> Facts:
        return self._steps.facts(state.places[number].local)
