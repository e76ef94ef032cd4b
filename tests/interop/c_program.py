"""Compiles the C programs of this directory as their users do."""

import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
STRICT: Final = ("-std=gnu17", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror")


def compile_c(directory: Path, *sources: str, wolfssl: Path | None = None) -> Path:
    """Compile and link with Debian's wolfSSL, or with the build in the directory `wolfssl`; return the program."""
    program = directory / Path(sources[0]).stem
    library = ["-lwolfssl"] if wolfssl is None else [f"-I{wolfssl}/include", f"{wolfssl}/lib/libwolfssl.a", "-lm"]
    command = ["gcc", *STRICT, "-o", str(program), *(str(HERE / source) for source in sources), *library]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program
