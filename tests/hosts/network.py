"""Several booted hosts on one switch."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.hosts.cgroups import remove_stale_cgroups
from tests.hosts.host import Host
from tests.lab.namespaces import own_label, switch

_IMAGE: Final = Path(__file__).with_name("image")
_IMAGE_WITHIN: Final = 600.0


@contextmanager
def booted_hosts(count: int) -> Iterator[Sequence[Host]]:
    """Boot hosts named host1, host2, ..., and remove them at the end. Needs root.

    SIGTERM raises KeyboardInterrupt meanwhile, as Ctrl-C does. Remains of killed processes are removed at the start.
    """
    made = subprocess.run([_IMAGE], check=True, stdout=subprocess.PIPE, text=True, timeout=_IMAGE_WITHIN)
    remove_stale_cgroups()
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{own_label()}-"))
        network = stack.enter_context(switch(count))
        hosts = []
        for number, plug in enumerate(network.hosts, start=1):
            host = Host(f"host{number}", made.stdout.strip(), plug, Path(directory), own_label())
            stack.callback(host.destroy)
            host.boot()
            hosts.append(host)
        for host in hosts:
            host.wait_until_booted()
        yield hosts
