"""The eavesdropper of the demo: what it reads from a capture file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from demo.capture import Capture, Segment, on_the_bridge, read
from lab.console import LabError

FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def frame(payload: bytes, source_port: int = 40000, destination_port: int = 15008, protocol: int = 6) -> bytes:
    """An Ethernet frame with one IPv4 packet, padded to Ethernet's shortest."""
    tcp = struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 1, 5 << 4, 0x18, 1000, 0, 0) + payload
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, protocol, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    )
    return (bytes(12) + b"\x08\x00" + ip + tcp).ljust(60, b"\0")


def pcap(*frames: bytes) -> bytes:
    return FILE_HEADER + b"".join(struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames)


def test_segments_with_data_are_read() -> None:
    """Padding is no data, and packets that are not TCP are nobody's."""
    found = list(read(pcap(frame(b"GET /"), frame(b""), frame(b"dns", protocol=17))))
    assert found == [Segment("10.0.0.1", 40000, "10.0.0.2", 15008, b"GET /")]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"\x16\x03\x01\x02\x00\x01", True), (b"GET / HTTP/1.1\r\nHost: x", False), (bytes(range(200, 220)), True)],
    ids=["hello", "text", "middle of a record"],
)
def test_tls_is_told_from_text(payload: bytes, expected: bool) -> None:
    """Judged by the first data of each direction of each connection."""
    capture = Capture([Segment("10.0.0.1", 40000, "10.0.0.2", 15008, payload)])
    assert capture.starts_with_tls(15008) is expected


def test_nothing_is_not_tls() -> None:
    """A capture without the port proves nothing."""
    assert not Capture().starts_with_tls(15008)


def test_a_marker_is_found() -> None:
    """In the clear, anywhere."""
    capture = Capture([Segment("10.0.0.1", 1, "10.0.0.2", 2, b"..marker..")])
    assert capture.contains(b"marker")
    assert not capture.contains(b"Marker")


def test_an_eavesdropper_that_hears_nothing_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tcpdump, "no packets" would be true of everything."""
    (tmp_path / "nsenter").write_text("#!/bin/sh\necho 'tcpdump: no permission' >&2\nexit 1\n")
    (tmp_path / "nsenter").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(LabError, match="no permission"), on_the_bridge("tcp"):
        pytest.fail("nobody listens")
