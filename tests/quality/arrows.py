"""Which module may import which: ARCHITECTURE's arrows as a table, and a checker that reads the imports."""

import ast
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

FOUNDATION: Final = frozenset({"errors", "model", "secret"})
CORE_VALUES: Final = frozenset({"core.events", "core.actions"})
CORE_INTERFACE: Final = CORE_VALUES | {"core.node", "core.notices", "core.settings", "core.view"}
"""The modules of the core that other packages may import; the others belong to the node alone."""

TOOLS: Final = FOUNDATION | frozenset(
    {"", "arguments", "client", "config", "daemon.event_kinds"}
    | {"daemon.event_table", "keyserver", "mcast", "program", "rtnetlink", "tools", "wire"}
)
"""The parts that a tool may import. `pskkeyctl doctor` needs a few rules of the daemon too, so as to find what the
daemon finds: the interfaces, ports and faults of mDNS, and the handshake that names the node of a server."""

# A part is a package or a module. A module belongs to the longest name in this table that begins its own name.
MAY_IMPORT: Final[dict[str, frozenset[str]]] = {
    "": FOUNDATION | {"keyserver", "client"},
    "__main__": frozenset({"daemon", "program"}),
    "errors": frozenset(),
    "secret": frozenset(),
    "model": frozenset({"model", "secret"}),
    "program": frozenset(),
    "rtnetlink": frozenset({"rtnetlink"}),
    "arguments": FOUNDATION | {"config"},
    "config": FOUNDATION | {"config", "rtnetlink"},
    "config.bounded_file": frozenset(),
    "config.mistakes": frozenset({"errors"}),
    "config.own_interfaces": frozenset({"rtnetlink"}),
    "config.psk_access": frozenset({"errors"}),
    "config.weak_keys": frozenset(),
    "wire": FOUNDATION | {"wire"},
    "core": FOUNDATION | {"core"},
    "adapters": FOUNDATION | CORE_VALUES | {"adapters", "config", "rtnetlink", "wire"},
    "daemon": FOUNDATION | CORE_INTERFACE | {"", "adapters", "config", "daemon"},
    "daemon.driver": FOUNDATION | CORE_INTERFACE,
    "daemon.status": FOUNDATION | CORE_INTERFACE | {"daemon.conditions", "daemon.counters"},
    "daemon.commands": FOUNDATION | CORE_INTERFACE | {"adapters"},
    "daemon.conditions": frozenset({"model"}),
    "daemon.machine_conditions": frozenset({"adapters.discovery.network", "config.own_interfaces", "model"}),
    "daemon.counters": frozenset(),
    "daemon.journal": frozenset(
        {"core.notices", "daemon.event_kinds", "daemon.event_table", "daemon.repeated_events", "model"}
    ),
    "daemon.logs": frozenset({"daemon.log_budget"}),
    "daemon.reload": FOUNDATION | {"adapters", "config", "daemon.event_kinds", "daemon.journal"},
    "daemon.log_budget": frozenset(),
    "daemon.event_kinds": frozenset({"core.notices", "daemon.log_budget"}),
    "daemon.event_table": frozenset({"core.notices", "daemon.event_kinds", "daemon.log_budget", "model"}),
    "daemon.repeated_events": frozenset({"adapters.complaints", "daemon.event_kinds", "daemon.event_table"}),
    "client": FOUNDATION | {"client", "wire"},
    "client.socket_access": frozenset(),
    "client.watch_protocol": FOUNDATION | {"wire"},
    "mcast": FOUNDATION | {"mcast", "rtnetlink"},
    "mcast.join": FOUNDATION | {"client", "mcast", "rtnetlink"},
    "keyserver": FOUNDATION
    | {"", "adapters", "arguments", "config", "daemon.log_budget", "keyserver", "program"}
    | {"rtnetlink", "wire"},
    "tools": TOOLS,
    "tools.ctl.doctor_machine": TOOLS
    | {"adapters.discovery.mdns_condition", "adapters.discovery.multicast_sockets", "adapters.discovery.network"}
    | {"adapters.discovery.port_holder", "adapters.tls.listening_sockets"},
    "tools.ctl.doctor_probes": TOOLS
    | {"adapters.host.socket_options", "adapters.tls.contexts", "adapters.tls.tcp_connect"},
}

PURE: Final = frozenset(
    {"abc", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq", "ipaddress", "itertools"}
    | {"math", "operator", "types", "typing"}
)
"""The modules of the standard library that the core may import: none has a clock, a file, a socket or randomness."""

NO_INPUT_OUTPUT: Final = frozenset(
    {"asyncio", "logging", "os", "pathlib", "random", "secrets", "select", "selectors", "shutil", "signal", "socket"}
    | {"ssl", "subprocess", "tempfile", "threading", "time", "zeroconf"}
)
"""The modules that `wire` may not import."""

CONVERSIONS: Final = frozenset({"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"})
"""The names of `socket` that open nothing: `wire/fields.py` may import them."""

_PACKAGES_OF_MODULES: Final = frozenset(
    {"client", "config", "core", "daemon", "keyserver", "mcast", "rtnetlink", "tools", "wire"}
)
"""`from pskkey.core import x` imports the module core.x; the names of `model` are its own."""

THREADS: Final = frozenset({"threading", "concurrent", "multiprocessing", "_thread"})


def arrow_faults(path: str, source: str) -> Iterator[str]:
    """Yield a sentence for each import of ours that `path` may not have."""
    if path.startswith("tests/") and not path.startswith("tests/core/"):
        for name, attribute in _imports("", is_package=False, tree=ast.parse(source)):
            target = _target(name, attribute) if name.startswith("pskkey.core") else ""
            if target and not _covers(CORE_INTERFACE, target):
                yield f"{path}: imports pskkey.{target}, which only the core and its own tests may import"
    if not path.startswith("daemon/pskkey/"):
        return
    module = _module(path)
    part = _part(module)
    if part is None:
        yield f"{path}: has no place in the table of arrows"
        return
    for name, attribute in _imports(module, path.endswith("__init__.py"), ast.parse(source)):
        if name == "pskkey" or name.startswith("pskkey."):
            target = _target(name, attribute)
            if not _covers(MAY_IMPORT[part], target):
                yield f"{path}: imports pskkey.{target}, against the arrows".replace("pskkey.,", "pskkey,")
        elif _is_foreign(part, path, name, attribute):
            yield f"{path}: imports {name}, which {part} does without"


def _module(path: str) -> str:
    inside = PurePosixPath(path).relative_to("daemon/pskkey").with_suffix("")
    return ".".join(part for part in inside.parts if part != "__init__")


def _part(module: str) -> str | None:
    names = module.split(".")
    prefixes = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next((prefix for prefix in prefixes if prefix in MAY_IMPORT), None)


def _imports(module: str, is_package: bool, tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Yield every import in a file as absolute module and, of `from` imports, the name."""
    full = f"pskkey.{module}".rstrip(".").split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package that the module is in, each further dot the one around that.
            base = full[: len(full) - node.level + is_package] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((name, alias.name) for alias in node.names)


def _target(name: str, attribute: str | None) -> str:
    """Return the module of ours that is imported, without `pskkey.`: `from pskkey.wire import frame` is wire.frame."""
    inside = name.removeprefix("pskkey").removeprefix(".")
    if attribute is None:
        return inside
    if not inside:
        return attribute if attribute in MAY_IMPORT else ""
    return f"{inside}.{attribute}" if inside in _PACKAGES_OF_MODULES else inside


def _covers(allowed: frozenset[str], target: str) -> bool:
    if not target:
        return "" in allowed
    return any(target == name or target.startswith(f"{name}.") for name in allowed if name)


def _is_foreign(part: str, path: str, name: str, attribute: str | None) -> bool:
    top = name.partition(".")[0]
    if top in THREADS and part != "tools" and path != "daemon/pskkey/keyserver/api.py":
        return True
    match part:
        case "core":
            return top not in PURE
        case "wire" if path == "daemon/pskkey/wire/fields.py" and name == "socket" and attribute in CONVERSIONS:
            return False
        case "wire" | "model" | "errors" | "secret":
            return top in NO_INPUT_OUTPUT
        case _:
            return False
