"""PSK files for tests."""

from pathlib import Path

from pskkey.config.psk import generate_psk_line


def write_psk(path: Path, *identities: str) -> Path:
    """Write a PSK file with a fresh key for each identity."""
    path.touch(0o600)
    path.write_text("".join(generate_psk_line(identity) + "\n" for identity in identities))
    return path
