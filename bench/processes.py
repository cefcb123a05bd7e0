"""What processes cost: CPU time and resident memory (proc_pid_stat(5), proc_pid_status(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_MIB = 1024


def cpu_seconds(pids: Iterable[int], proc: Path = Path("/proc")) -> float:
    """User and system time of all threads of these processes, in steps of 10 ms."""
    return sum(sum(map(int, _after_name(proc / str(pid) / "stat")[11:13])) for pid in pids) * _TICK


def resident_mb(pid: int, proc: Path = Path("/proc")) -> float:
    """VmRSS in MiB."""
    for line in (proc / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / _MIB
    raise ValueError(f"process {pid} has no memory: it is a zombie")


def proportional_mb(pid: int, proc: Path = Path("/proc")) -> float:
    """Pss in MiB: a page that n processes share counts as an nth."""
    for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / _MIB
    raise ValueError(f"process {pid} has no memory: it is a zombie")


def machine_cpu(proc: Path = Path("/proc")) -> tuple[float, float]:
    """Busy and total CPU seconds of the machine since its boot: what the neighbours take is busy minus ours."""
    fields = [int(field) * _TICK for field in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


def _after_name(stat: Path) -> list[str]:
    """Fields from `state` on; the name before may hold spaces."""
    return stat.read_text().rpartition(")")[2].split()
