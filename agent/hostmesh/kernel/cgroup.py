"""The cgroup v2 hierarchy (cgroups(7), Linux Documentation/admin-guide/cgroup-v2.rst).

A host has it at /sys/fs/cgroup (unified), or beside the old controllers at /sys/fs/cgroup/unified (hybrid).
The kernel's packet filter compares the id of a cgroup, which is the inode of its directory; nft reads a path
relative to /sys/fs/cgroup and translates it once. A cgroup made again under the same path has another id.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SYSFS = Path("/sys/fs/cgroup")
_MOUNTINFO = Path("/proc/self/mountinfo")


class NoCgroup2(OSError):
    """The host has no cgroup v2 hierarchy, so the kernel cannot tell services apart."""


@dataclass(frozen=True, slots=True)
class CgroupRoot:
    """Where the hierarchy is mounted. Paths below it are written without a leading slash."""

    mount: Path
    sysfs: Path = _SYSFS

    @property
    def nft_prefix(self) -> str:
        """What comes before a cgroup's path where nft reads it, relative to /sys/fs/cgroup: empty on unified hosts."""
        relative = str(self.mount.relative_to(self.sysfs))
        return "" if relative == "." else relative

    def id(self, cgroup: str) -> int | None:
        """The kernel's id of the cgroup, None while there is no such cgroup."""
        try:
            return (self.mount / cgroup).stat().st_ino
        except (FileNotFoundError, NotADirectoryError):
            return None


def find_root(mountinfo: Path = _MOUNTINFO, sysfs: Path = _SYSFS) -> CgroupRoot:
    """Find the mounted cgroup v2 hierarchy, as proc_pid_mountinfo(5) lists it.

    Raises:
        NoCgroup2: none is mounted below /sys/fs/cgroup, where nft looks.
    """
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount = Path(before.split()[4])
        if after.split()[0] == "cgroup2" and mount.is_relative_to(sysfs):
            return CgroupRoot(mount, sysfs)
    raise NoCgroup2(
        f"no cgroup v2 hierarchy is mounted below {sysfs}; boot with systemd.unified_cgroup_hierarchy=1 "
        "(the default since Debian 11)"
    )


def level(cgroup: str) -> int:
    """Depth below the root, as nft's `socket cgroupv2 level` counts: `system.slice/a.service` is 2."""
    return len(Path(cgroup.strip("/")).parts)


def of_process(pid: int | str = "self", proc: Path = Path("/proc")) -> str:
    """The cgroup of a process, `""` for the root.

    Raises:
        FileNotFoundError: no such process.
        NoCgroup2: the process is in no cgroup v2 hierarchy.
    """
    for line in (proc / str(pid) / "cgroup").read_text().splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").strip("/")
    raise NoCgroup2(f"process {pid} is in no cgroup v2 hierarchy")
