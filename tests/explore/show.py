"""A trace, repeated move by move in a readable form."""

from collections.abc import Iterator
from functools import partial

from pskkey.core.node import Node
from pskkey.wire.packet import Channel, PacketReader, Side
from tests.explore.device import Broken
from tests.explore.moves import Cost, Move, parse
from tests.explore.search import ALONG, HEARD, UNHEARD, run_without_faults
from tests.explore.situations import SITUATIONS
from tests.explore.snapshot import MICROSECONDS, value_of
from tests.explore.stage import Stage
from tests.explore.state import ENDED, PAIRS, State, stream_of


def show(trace: str, make_node: type[Node] = Node) -> Iterator[str]:
    """Yield the events of a trace, line by line, and at the end the state of each device. Raises ValueError."""
    name, _, moves = trace.partition(":")
    situation = next((s for s in SITUATIONS if s.name == name.strip()), None)
    if situation is None:
        raise ValueError(f"there is no situation {name.strip()}")
    stage, lines = Stage(make_node), list[str]()
    try:
        situation.prepare(stage)
        stage.state = stage.state._replace(allowed=situation.allowed)
        stage.moves.elapsed = 0
        stage.moves.notes.clear()
        for word in moves.split():
            if word in (HEARD, UNHEARD) or word.startswith(ALONG):
                listener = partial(_keep, stage, lines)
                stage.observers.append(listener)
                try:
                    if word.startswith(ALONG):
                        stage.follow(int(word.removeprefix(ALONG)))
                    else:
                        lines.append(f"{_time(stage)} without faults from here on, adverts on their way {word}")
                        run_without_faults(stage, word)
                finally:
                    stage.observers.remove(listener)
                    yield from lines
                    lines.clear()
            else:
                move = parse(word)
                if all(move not in stage.moves.possible_moves(stage.state, cost) for cost in Cost):
                    raise ValueError(f"{word} is not possible there")
                yield f"{_time(stage)} {word}  {describe(stage.state, move)}"
                stage.make(move)
            yield from _notes(stage)
    except Broken as broken:
        yield from _notes(stage)
        yield f"{_time(stage)} BROKEN {broken}"
    for number, facts in enumerate(stage.facts()):
        yield f"n{number + 1}: {facts}"


def describe(state: State, move: Move) -> str:
    """Return a move in words."""
    match move.what:
        case "a" | "*":
            sender, receiver = PAIRS[move.at[0]]
            advert = value_of(state.airs[move.at[0]].coming[move.at[1]])
            return f"n{receiver + 1} hears n{sender + 1}: {advert.role}, term {advert.term}, answers {advert.answers}"
        case ">" | "<":
            stream = stream_of(state, move.at)
            data = (stream.to_server if move.what == ">" else stream.to_client)[0]
            ends = (stream.client + 1, stream.server + 1)
            sender, receiver = ends if move.what == ">" else ends[::-1]
            side = Side.SERVER if move.what == ">" else Side.CLIENT
            inside = "end" if data == ENDED else PacketReader(Channel.TLS, side).receive_untrusted(data)
            return f"n{receiver} receives from n{sender}: {inside}"
        case "+" | "-" | "!":
            stream = stream_of(state, move.at)
            how = {"+": "is open", "-": "cannot be opened", "!": "breaks"}[move.what]
            return f"the session of n{stream.client + 1} with n{stream.server + 1} {how}"
        case _:
            what = {"t": "is called", "s": "starts", "x": "dies", "p": "loses its power", "r": "is asked for a new key"}
            return f"n{move.at[0] + 1} {what.get(move.what, 'is asked to hand over')}"


def _keep(stage: Stage, lines: list[str], move: Move) -> None:
    lines.extend(_notes(stage))
    lines.append(f"{_time(stage)} {move}  {describe(stage.state, move)}")


def _time(stage: Stage) -> str:
    return f"{stage.moves.elapsed / MICROSECONDS:9.3f}"


def _notes(stage: Stage) -> Iterator[str]:
    notes, stage.moves.notes = stage.moves.notes, []
    yield from (f"{'':9} {note}" for note in notes)
