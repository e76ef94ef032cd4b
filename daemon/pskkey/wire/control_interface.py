"""The Varlink interfaces of the control socket, as their descriptions (varlink.org, "Interface Definition")."""

from typing import Final

SERVICE_INTERFACE: Final = "org.varlink.service"
CONTROL_INTERFACE: Final = "io.pskkey.Control"

SERVICE_DESCRIPTION: Final = """\
# The information about itself that every Varlink service has.
interface org.varlink.service

# The maker of the service, and its interfaces.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# The description of one interface, in this language.
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""

CONTROL_DESCRIPTION: Final = """\
# The group-key daemon of this node. No key crosses this interface: keys appear as fingerprints.
interface io.pskkey.Control

type Role (listening, joining, client, master)

# speaks: the lowest and the highest protocol level.
type Node (
  id: string,
  name: string,
  priority: int,
  eligible: bool,
  version: string,
  speaks: []int
)

type Master (
  id: string,
  name: string,
  address: ?string,
  port: int
)

# fingerprint: the first 8 bytes of SHA-256 over the key, in hex. age_s: seconds since this node got it.
type Key (
  epoch: int,
  suite: string,
  fingerprint: string,
  state: (current, next, previous),
  age_s: float
)

# A request for a new key that is not served yet. Until then, a session manager that asks for sender_restarted does not
# send, and one that asks for receiver_began does not receive. due_s: seconds until the request is due; a requester that
# asks often waits longer each time.
type Request (
  reason: (operator, sequence_high_water, sender_restarted, receiver_began, other),
  due_s: float
)

# version: of its program, empty if unknown. speaks: its lowest and highest protocol level. psk_identity: that of the
# pre-shared key of its session; only the master knows it.
type Member (
  id: string,
  name: string,
  role: Role,
  address: ?string,
  sender_id: ?int,
  priority: int,
  eligible: bool,
  acked_epoch: ?int,
  version: string,
  speaks: []int,
  psk_identity: ?string
)

# A session manager that is attached to the keys socket. level: the highest level of that socket that it understands.
type Session (
  pid: int,
  uid: int,
  sender: bool,
  acked_epoch: ?int,
  level: int
)

# A present reason why this node is in no group, or why its group is not whole. text: the fault. remedy: the next step.
# peer: the id of the node that it is about. since_s: seconds since it began.
type Condition (
  kind: string,
  peer: ?string,
  address: ?string,
  text: string,
  remedy: string,
  since_s: float
)

# Fields may be added to this, never renamed: schema is 1. level: the protocol level of the group, the highest one that
# all members speak; null without a group. held_back_by: the names of the members that speak no higher one, if others
# do. Counters only rise while the daemon lives; counter_ages_s: seconds since each of them rose last, of those that
# did. loop_away_ms: the longest time in the last minute for which the daemon served nobody, because it was busy with
# one thing. warnings: the conditions, a sentence each. With "more" the status comes again whenever it changes.
method GetStatus() -> (
  schema: int,
  group: string,
  role: Role,
  term: int,
  node: Node,
  master: ?Master,
  keys: []Key,
  requests: []Request,
  sender_id: ?int,
  level: ?int,
  held_back_by: []string,
  members: []Member,
  sessions: []Session,
  counters: [string]int,
  counter_ages_s: [string]float,
  loop_away_ms: float,
  conditions: []Condition,
  warnings: []string
)

# An advert that this node received in the last minute. ours: of this group, and verified. other_group: of another
# group. other_psk: it names this group, but none of our PSKs verifies it. name and group: as sent, without control
# characters, at most 64 characters. id: of the node, if verified. source: the address that it came from.
type Heard (
  kind: (ours, other_group, other_psk),
  name: string,
  id: ?string,
  group: string,
  source: string,
  age_s: float
)

# Another node of this group: a member, or a node whose advert is in heard. addresses: at most 8 that it announces, and
# perhaps a link-local one with its zone.
type Peer (
  id: string,
  name: string,
  addresses: []string,
  port: int,
  is_member: bool
)

# The network as the daemon sees it. Fields may be added to this, never renamed: schema is 1. interfaces, ip, port: the
# settings in [network] that are in use. addresses: those that this node announces. peers: at most 128, the master
# first; peers_left_out: the number of the others. heard: at most 192 of this group, and 64 others.
method GetNetwork() -> (
  schema: int,
  interfaces: []string,
  ip: (both, v4, v6),
  port: int,
  addresses: []string,
  peers: []Peer,
  peers_left_out: int,
  heard: []Heard
)

# Replace the group key by a new one. For administrators.
method Rekey() -> ()

# Hand the mastership to a node, by id or name, or to the next in the succession. For administrators.
method Switchover(node: ?string) -> ()

# The node cannot do this now; reason is a sentence.
error NotPossible (reason: string)

# No member has this id or name.
error NoSuchNode (node: string)
"""
