"""Why a new key is needed: somebody has requested it, a sender id is blocked, or a joiner brings another key."""

from pskkey.core.actions import Action
from pskkey.core.admission import Joined
from pskkey.core.election import Election
from pskkey.core.former_keys import find_former_key, is_same
from pskkey.core.key_slots import is_above, latest
from pskkey.core.keyring import Keyring
from pskkey.core.members import Members
from pskkey.core.notices import ForeignKeyMet, KeyRequested, KeyRequestPostponed, Merged
from pskkey.core.rekey import Rekey
from pskkey.core.rekey_requests import RekeyRequests, local_user, member
from pskkey.core.session_managers import SessionManagers
from pskkey.core.settings import Settings
from pskkey.model import Join, KeyNewReason, Role


class KeyNeeds:
    """The reasons for a new key that this node notices. Methods append actions to `out`."""

    def __init__(
        self,
        settings: Settings,
        election: Election,
        members: Members,
        keyring: Keyring,
        managers: SessionManagers,
        requests: RekeyRequests,
        rekey: Rekey,
        out: list[Action],
    ) -> None:
        self._settings = settings
        self._election = election
        self._members = members
        self._keyring = keyring
        self._managers = managers
        self._requests = requests
        self._rekey = rekey
        self._out = out

    def request(self, requester: str, reason: KeyNewReason, now: float) -> None:
        """Open a request for a new key. Report it if it is postponed, or if this node serves it as master."""
        due = self._requests.ask(requester, reason, now)
        if due is None:
            return
        if due > now:
            self._out.append(KeyRequestPostponed(requester, reason, due - now))
        elif self._election.role is Role.MASTER:
            self._out.append(KeyRequested(reason))

    def request_for_senders(self, now: float) -> None:
        """Request a new key for a blocked sender of this node and, as master, for members with blocked leases.

        If there is a next key, do nothing.
        """
        sender, current = self._managers.sender, self._keyring.current
        if current is None or self._keyring.next is not None:
            return
        reason = KeyNewReason.SENDER_RESTARTED
        if sender is not None and self._managers.is_blocked(current.key):
            self._requests.ask(local_user(sender.process.uid), reason, now)
        for node in self._members.waiting if self._election.role is Role.MASTER else ():
            self._requests.ask(member(node, reason), reason, now)

    def take_member(self, arrived: Joined) -> None:
        """Require a new key if a member that has confirmed its JOIN has another one, or was a master.

        In the group of that master, sender ids may be leased that this master has leased to other nodes.
        """
        self.meet_foreign_keys(arrived.join)
        newest = self._keyring.newest
        if arrived.has_yielded:
            self._out.append(Merged(arrived.member, self._settings.me))
        if arrived.has_yielded and newest is not None:
            self._rekey.go_above(latest([newest.epoch, *(held.epoch for held in arrived.join.held)]))

    def meet_foreign_keys(self, join: Join) -> None:
        """Require a new key above the epochs of a joiner's former key and foreign keys, if our newest key is not.

        A foreign key is a key of the joiner that this node does not have.
        """
        keyring = self._keyring
        newest, former = keyring.next or keyring.current, find_former_key(join.held, keyring.current)
        if former is None or is_same(former, newest):
            return
        foreign = [held for held in join.held if not any(is_same(held, entry) for entry in keyring.entries)]
        above = latest([former.epoch, *(held.epoch for held in foreign)])
        is_above_us = newest is None or not is_above(newest.epoch, above)
        if is_above_us and self._rekey.go_above(above):
            self._out.append(ForeignKeyMet(join.member, former.epoch))
