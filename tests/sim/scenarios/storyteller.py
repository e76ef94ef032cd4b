"""Writes the transcript of a scenario, one line for each event that changes something: milliseconds, node, event."""

from pskkey.core.actions import Action, Send
from pskkey.core.events import Direction
from pskkey.core.notices import KeyDistributed, MasterLost, RoleChanged, Slept
from pskkey.daemon.event_table import sentence
from pskkey.model import ErrorMessage, Handover, Join, KeyAck, KeyNew, Merge, Message
from tests.sim.host import Host
from tests.sim.managers import Managers, SessionManager
from tests.sim.world import World


class Storyteller:
    """Observes a world from `begin` on. `lines`: the transcript."""

    def __init__(self, world: World, managers: Managers) -> None:
        self._world = world
        self._began = 0.0
        self._is_on = False
        self.lines: list[str] = []
        self._keys: dict[Host, str] = {}
        world.actions.append(self._action)
        world.after_step.append(self._step)
        managers.changed.append(self._installed)

    def begin(self) -> None:
        """Count the milliseconds from now on, and add the role, the term and the keys of each node."""
        self._began = self._world.now
        self._is_on = True
        for host in self._world.hosts:
            if host.node is not None:
                self.add(host, f"{host.node.view().role}, term {host.node.view().term}, {self._held_keys(host)}")
                self._keys[host] = self._held_keys(host)

    def add(self, host: Host, text: str) -> None:
        """Add a line."""
        for fingerprint, name in self._world.keys.items():
            text = text.replace(fingerprint, name)
        self.lines.append(f"{(self._world.now - self._began) * 1000:8.1f}  {host.name}  {text}")

    def _action(self, host: Host, action: Action) -> None:
        if not self._is_on:
            return
        match action:
            case RoleChanged() | KeyDistributed() | MasterLost() | Slept():
                self.add(host, sentence(action))
            case Send(session, message) if session.direction is not Direction.LOCAL:
                self._message(host, session, message)
            case _:
                pass

    def _message(self, host: Host, session: object, message: Message) -> None:
        stream = next((s for s in host.streams.values() if s.ends[host] == session), None)
        to = "" if stream is None else f" -> {stream.other(host).name}"
        match message:
            case Join(term=term):
                self.add(host, f"JOIN{to} (has seen term {term}, holds {self._held_keys(host)})")
            case Merge(winner=None, members=members, epoch=epoch):
                self.add(host, f"MERGE{to} (serves {members}, epoch {epoch})")
            case Merge(winner=winner):
                self.add(host, f"MERGE{to} ({self._name(winner)} stays master)")
            case Handover(master=master, term=term):
                self.add(host, f"HANDOVER{to} ({master.name}, term {term})")
            case KeyAck(epoch):
                self.add(host, f"KEY_ACK{to} (epoch {epoch})")
            case KeyNew(reason):
                self.add(host, f"KEY_NEW{to} ({reason.name.lower()})")
            case ErrorMessage(code):
                self.add(host, f"ERROR{to} ({code})")
            case _:
                pass

    def _step(self, host: Host) -> None:
        if self._is_on and host.node is not None and self._keys.get(host) != self._held_keys(host):
            self._keys[host] = self._held_keys(host)
            self.add(host, f"holds {self._held_keys(host)}")

    def _installed(self, manager: SessionManager, _knew: frozenset[str], sent: tuple[str, int] | None) -> None:
        if not self._is_on or manager.sends == sent:
            return
        if manager.sends is None:
            self.add(manager.host, "its session manager stops sending")
        else:
            self.add(manager.host, f"its session manager sends with {manager.sends[0]} as {manager.sends[1]}")

    def _held_keys(self, host: Host) -> str:
        if host.node is None:
            return "nothing"
        entries = host.node.key_state().entries
        named = ((self._world.keys[e.key.fingerprint], e) for e in entries)
        return " ".join(f"{name}{'*' if e.send else ''}/{e.epoch}" for name, e in named) or "no key"

    def _name(self, node_id: str | None) -> str:
        return next((h.name for h in self._world.hosts if h.member.id == node_id), "nobody")
