"""Where the cgroup v2 hierarchy is, and ids and depths of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostmesh.kernel.cgroup import CgroupRoot, NoCgroup2, find_root, level, of_process

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "30 23 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n"
    "31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
    "32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,name=systemd\n"
)
ELSEWHERE = "30 23 0:26 / /mnt/cgroup2 rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "mount", "prefix"), [(UNIFIED, "/sys/fs/cgroup", ""), (HYBRID, "/sys/fs/cgroup/unified", "unified")]
)
def test_find_root(tmp_path: Path, mountinfo: str, mount: str, prefix: str) -> None:
    """On a hybrid host nft wants the paths with a prefix, as it looks below /sys/fs/cgroup."""
    (tmp_path / "mountinfo").write_text(mountinfo)
    root = find_root(tmp_path / "mountinfo")
    assert (str(root.mount), root.nft_prefix) == (mount, prefix)


@pytest.mark.parametrize("mountinfo", ["", ELSEWHERE, HYBRID.splitlines(keepends=True)[0]])
def test_no_root_says_what_to_do(tmp_path: Path, mountinfo: str) -> None:
    """A hierarchy that nft cannot see is none."""
    (tmp_path / "mountinfo").write_text(mountinfo)
    with pytest.raises(NoCgroup2, match=r"systemd\.unified_cgroup_hierarchy=1"):
        find_root(tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("cgroup", "depth"),
    [
        ("", 0),
        ("/", 0),
        ("system.slice", 1),
        ("system.slice/a.service", 2),
        ("/system.slice/system-a.slice/a@1.service/", 3),
    ],
)
def test_level(cgroup: str, depth: int) -> None:
    """As nft counts."""
    assert level(cgroup) == depth


def test_id_is_the_inode(tmp_path: Path) -> None:
    """And None where there is no such cgroup."""
    root = CgroupRoot(tmp_path, tmp_path)
    (tmp_path / "system.slice/a.service").mkdir(parents=True)
    (tmp_path / "file").touch()
    assert root.id("system.slice/a.service") == (tmp_path / "system.slice/a.service").stat().st_ino
    assert root.id("system.slice/b.service") is None
    assert root.id("file/b.service") is None


@pytest.mark.parametrize(
    ("content", "cgroup"),
    [("0::/system.slice/a.service\n", "system.slice/a.service"), ("4:memory:/x\n0::/\n", "")],
)
def test_of_process(tmp_path: Path, content: str, cgroup: str) -> None:
    """The line of hierarchy 0 is cgroup v2, whatever else is mounted."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(content)
    assert of_process(7, tmp_path) == cgroup


def test_of_process_without_cgroup2(tmp_path: Path) -> None:
    """A v1-only host cannot tell."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text("4:memory:/x\n")
    with pytest.raises(NoCgroup2):
        of_process(7, tmp_path)


def test_of_this_process() -> None:
    """The default is the process itself."""
    assert of_process() == of_process(os.getpid())
