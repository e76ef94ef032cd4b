"""Wireshark's own decoder reads the headers of our datagrams.

The command for a live capture: `tshark -i eth0 -d udp.port==12345,dtls -T fields -e dtls.record.epoch
-e dtls.record.sequence_number`. The upper byte of the 48-bit sequence number is the sender id.
"""

import struct
import subprocess
from pathlib import Path

import pytest

from pskkey.mcast import RecordProtection
from pskkey.model import Suite
from tests.mcast.vectors import group_key

PORT = 12345
LINKTYPE_RAW = 101


def pcap(datagrams: list[bytes]) -> bytes:
    """Return a capture file of raw IPv4 packets to 239.255.0.1."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW)
    for number, datagram in enumerate(datagrams):
        udp = struct.pack(">HHHH", 40000, PORT, 8 + len(datagram), 0) + datagram
        source, group = bytes([10, 0, 0, 1]), bytes([239, 255, 0, 1])
        packet = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number, 0, 1, 17, 0, source, group) + udp
        out += struct.pack("<IIII", 1, number, len(packet), len(packet)) + packet
    return out


@pytest.mark.parametrize("suite", list(Suite))
def test_tshark_decodes_type_epoch_sender_and_sequence(suite: Suite, tmp_path: Path) -> None:
    sent = [(1, 0, 0), (7, 1, 1), (7, 255, (1 << 40) - 1), (65535, 42, 1 << 33)]
    key = group_key(1, suite)
    capture = tmp_path / "group.pcap"
    capture.write_bytes(pcap([RecordProtection(key, e).seal(sender, seq, b"status") for e, sender, seq in sent]))
    fields = ["content_type", "version", "epoch", "sequence_number", "length"]
    columns = [argument for field in fields for argument in ("-e", f"dtls.record.{field}")]
    done = subprocess.run(
        ["tshark", "-r", str(capture), "-d", f"udp.port=={PORT},dtls", "-T", "fields", *columns],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    overhead = 32 if suite is Suite.WDM_WITH_NULL_SHA256 else 16
    rows = [[int(field, 0) for field in line.split("\t")] for line in done.stdout.splitlines()]
    assert rows == [[23, 0xFEFD, epoch, sender << 40 | seq, 6 + overhead] for epoch, sender, seq in sent]
