"""The sender ids that a master leases to joiners and to itself, and the reports on them to the operator."""

from collections.abc import Callable, Mapping

from pskkey.core.actions import Action
from pskkey.core.keyring import Keyring
from pskkey.core.leases import LeaseTable
from pskkey.core.notices import NoSenderId, Notice, SenderIdTaken
from pskkey.core.settings import Settings
from pskkey.model import Group, Join, KeyState, Member


class LeaseAllocator:
    """The lease table of one master, and its reports, appended to `out`. `group` returns the group as it is now."""

    def __init__(self, settings: Settings, keyring: Keyring, group: Callable[[], Group], out: list[Action]) -> None:
        self._settings = settings
        self._keyring = keyring
        self._group = group
        self._out = out
        self._reported: dict[str, Notice] = {}
        """By node id, the last report on each member."""
        self._reported_for_me: tuple[int | None, int | None] = (None, None)
        """The configured and the leased sender id of this node at the last report."""
        self.leases = LeaseTable()

    def inherit(self, leased: Mapping[str, int | None], state: KeyState) -> None:
        """Begin with the leases that the last master announced, and with the lease of this node in `state`."""
        if not state.entries:
            return
        me = self._settings.me.id
        holders = {n: i for n, i in leased.items() if i is not None and i != state.sender_id and n != me}
        if state.sender_id is not None:
            holders[me] = state.sender_id
        self.leases.inherit(holders, state.senders, self._keyring.live_epochs)

    def lease_to_me(self) -> bool:
        """Lease an id to the master itself if it has none. Return whether it has just received one."""
        me = self._settings.me
        if (got := self.leases.sender_id(me.id)) is not None:
            if self._reported_for_me != (me.sender_id, got):
                self._reported_for_me = (me.sender_id, got)
                self._report(me)
            return False
        self.leases.grant(
            me.id,
            self._settings.incarnation,
            sends=True,
            resumed=True,
            before=frozenset(),
            wanted=me.sender_id,
            live=self._keyring.live_epochs,
        )
        self._report(me)
        return self.leases.sender_id(me.id) is not None

    def lease_to_joiner(self, join: Join) -> None:
        """Lease an id to a joiner that sends, or update the lease that it has."""
        ring = [(e.epoch, e.key.fingerprint) for e in self._keyring.entries]
        sends_with = next(
            (ring.index(k) for h in join.held if h.send and (k := (h.epoch, h.fingerprint)) in ring), None
        )
        granted = self.leases.sender_id(join.member.id)
        # No node has sent with the next key yet. If this master has inherited that key, its epoch is blocked anyway.
        used = frozenset(e.epoch for e in self._keyring.entries if e is not self._keyring.next)
        self.leases.grant(
            join.member.id,
            join.incarnation,
            sends=join.sender,
            resumed=sends_with is not None and join.lease is not None and join.lease == granted,
            before=frozenset(epoch for epoch, _ in ring[:sends_with]),
            wanted=join.member.sender_id,
            live=used,
            coming=self._keyring.live_epochs - used,
            claimed=None if sends_with is None or join.lease is None else (join.lease, ring[sends_with][0]),
        )
        if join.sender:
            self._report(join.member)

    def forget(self, node: str) -> None:
        """Forget the report on a member that has left. If it returns, report it again."""
        self._reported.pop(node, None)

    def _report(self, member: Member) -> None:
        """Report that a sender has no id, or another id than the configured one. Repeat this only after a change."""
        got = self.leases.sender_id(member.id)
        notice: Notice
        if got is None:
            notice = NoSenderId(member)
        elif member.sender_id not in (None, got):
            holder = self.leases.holder(member.sender_id)
            names = {m.id: m.name for m in self._group().members}
            notice = SenderIdTaken(member, member.sender_id, got, names.get(holder or "", "a node that has left"))
        else:
            self._reported.pop(member.id, None)
            return
        if self._reported.get(member.id) != notice:
            self._reported[member.id] = notice
            self._out.append(notice)
