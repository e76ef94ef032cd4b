"""pskkeyctl on a machine with the package installed, in a mount namespace of its own. Needs root."""

import asyncio
import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Sequence

from tests.tools.ctl.pskkeyctl_process import Result

_INSTALLED = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
rm -rf /etc/credstore /etc/credstore.encrypted
echo pskkey:x:64999:64999::/:/bin/false >>/etc/passwd
echo pskkey:x:64999: >>/etc/group
printf '[node]\\nid = "0badcafe"\\n' >/etc/pskkey.toml
touch /etc/pskkey.psk
chmod 0600 /etc/pskkey.psk
echo "plant:$KEY" >/etc/pskkey.psk
"""


async def run_installed(further: str, *arguments: str, prefix: Sequence[str] = ()) -> Result:
    """Run pskkeyctl there, with `prefix` before its command line, after further commands of a shell."""
    command = [*prefix, sys.executable, "-m", "pskkey.tools.ctl.pskkeyctl", *arguments]
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-ec", f"{_INSTALLED}{further}\nexec {shlex.join(command)}",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "KEY": secrets.token_hex(32)},
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    return Result(process.returncode, output.decode(), errors.decode())
