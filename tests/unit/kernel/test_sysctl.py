"""Settings below a /proc/sys of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.kernel import sysctl


def test_read_and_write(tmp_path: Path) -> None:
    """Dots are directories; values come without their line end."""
    (tmp_path / "net/ipv4").mkdir(parents=True)
    (tmp_path / "net/ipv4/tcp_fwmark_accept").write_text("0\n")
    assert sysctl.read("net.ipv4.tcp_fwmark_accept", tmp_path) == "0"
    sysctl.write("net.ipv4.tcp_fwmark_accept", "1", tmp_path)
    assert sysctl.read("net.ipv4.tcp_fwmark_accept", tmp_path) == "1"


def test_what_may_not_be_written(tmp_path: Path) -> None:
    """The error names the setting and the value."""
    (tmp_path / "kernel/x").mkdir(parents=True)
    with pytest.raises(sysctl.SysctlReadOnly, match=r"kernel\.x cannot be set to 1 here"):
        sysctl.write("kernel.x", "1", tmp_path)


def test_what_this_kernel_has_not(tmp_path: Path) -> None:
    """A setting that does not exist is another error than one that may not be written."""
    with pytest.raises(FileNotFoundError):
        sysctl.read("net.no.such", tmp_path)
    with pytest.raises(FileNotFoundError):
        sysctl.write("net.no.such", "1", tmp_path)
