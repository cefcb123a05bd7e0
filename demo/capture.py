"""What an eavesdropper on the bridge sees: a packet capture and what is in it."""

from __future__ import annotations

import contextlib
import ipaddress
import struct
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.console import LabError
from lab.network import BRIDGE

from demo.estate import LAB

ETHERNET_HEADER = 14
TCP = 6
TLS_RECORDS = {20, 21, 22, 23}


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment that carried data."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes


@dataclass(slots=True)
class Capture:
    """Everything that was seen, once the capture has ended."""

    segments: list[Segment] = field(default_factory=list)

    def ports(self) -> dict[int, int]:
        """How many segments with data went to or from each server port (the lower one)."""
        counts: dict[int, int] = defaultdict(int)
        for segment in self.segments:
            counts[min(segment.source_port, segment.destination_port)] += 1
        return dict(sorted(counts.items()))

    def contains(self, text: bytes) -> bool:
        """Whether the text travelled in the clear."""
        return any(text in segment.payload for segment in self.segments)

    def starts_with_tls(self, port: int) -> bool:
        """Whether the first bytes of every connection to a port are a TLS record, both ways."""
        seen: set[tuple[str, int, str, int]] = set()
        for one in self.segments:
            flow = (one.source, one.source_port, one.destination, one.destination_port)
            if port in (one.source_port, one.destination_port) and flow not in seen:
                seen.add(flow)
                # A connection that was open before the capture began continues in the middle of a record.
                if one.payload[0] not in TLS_RECORDS and _is_text(one.payload):
                    return False
        return bool(seen)


def _is_text(payload: bytes) -> bool:
    return payload[:16].isascii()


@contextlib.contextmanager
def on_the_bridge(expression: str) -> Iterator[Capture]:
    """Capture while the block runs; what was seen is there when it has ended.

    Raises:
        LabError: nobody listens, so that nothing would be seen whatever there is.
    """
    capture = Capture()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bridge.pcap"
        command = ["nsenter", f"--net={LAB.namespace_path}", "tcpdump", "-i", BRIDGE, "--immediate-mode", "-U"]
        command += ["-Z", "root", "-w", str(file), expression]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        # tcpdump says when it is listening; what is sent before would be missed.
        said = []
        for line in process.stderr:
            said.append(line.strip())
            if "listening on" in line:
                break
        else:
            process.communicate()
            raise LabError(f"nobody listens on the bridge: {' '.join(said) or 'tcpdump ended'}")
        try:
            yield capture
        finally:
            process.terminate()
            process.communicate()
        if file.exists():
            capture.segments += read(file.read_bytes())


def read(pcap: bytes) -> Iterator[Segment]:
    """The TCP segments with data in a capture file (pcap, Ethernet, IPv4)."""
    order = "<" if pcap[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    offset = 24
    while offset + 16 <= len(pcap):
        _, _, length, _ = struct.unpack_from(f"{order}IIII", pcap, offset)
        segment = _segment(pcap[offset + 16 : offset + 16 + length])
        if segment is not None:
            yield segment
        offset += 16 + length


def _segment(frame: bytes) -> Segment | None:
    packet = frame[ETHERNET_HEADER:]
    if frame[12:14] != b"\x08\x00" or len(packet) < 20 or packet[9] != TCP:
        return None
    header = (packet[0] & 15) * 4
    total = int.from_bytes(packet[2:4], "big")
    tcp = packet[header:total]
    payload = tcp[(tcp[12] >> 4) * 4 :]
    if not payload:
        return None
    source_port, destination_port = struct.unpack_from("!HH", tcp)
    source, destination = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
    return Segment(source, source_port, destination, destination_port, payload)
