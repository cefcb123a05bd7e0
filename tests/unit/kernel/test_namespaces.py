"""Network namespaces as files; entering one is in tests/netns, as it needs root."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from hostmesh.kernel.namespaces import NotANamespace, check, has_address, inode, open_namespace, own


def test_the_own_namespace_is_one() -> None:
    """The same file twice has the same inode."""
    first, second = own(), open_namespace(Path("/proc/self/ns/net"))
    try:
        assert inode(first) == inode(second)
        check(first, "mine")
    finally:
        os.close(first)
        os.close(second)


@pytest.mark.parametrize("path", ["/dev/null", "/proc/self/ns/mnt", "/proc/self/status"])
def test_other_files_are_not(path: str) -> None:
    """Another device, a namespace of another kind, a file; the text names it."""
    with pytest.raises(NotANamespace, match=f"{path} is no network namespace"):
        open_namespace(Path(path))


def test_a_fifo_does_not_hold_anybody_up(tmp_path: Path) -> None:
    """Opening one would wait for a writer."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotANamespace):
        open_namespace(tmp_path / "fifo")


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    """A namespace stays alive as long as somebody has it open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(NotANamespace):
            open_namespace(Path("/dev/null"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(("address", "there"), [("127.0.0.1", True), ("198.51.100.77", False), ("2001:db8::77", False)])
def test_addresses_of_the_namespace(address: str, there: bool) -> None:
    """Documentation addresses are nobody's."""
    assert has_address(ip_address(address)) is there
