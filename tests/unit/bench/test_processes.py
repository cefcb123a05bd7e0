"""What /proc says about processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bench.processes import cpu_seconds, machine_cpu, resident_mb

TICK = 1 / os.sysconf("SC_CLK_TCK")


def test_cpu_is_the_sum_of_user_and_system_of_all_processes(tmp_path: Path) -> None:
    """A name may hold spaces and parentheses (proc_pid_stat(5))."""
    for pid, name, user, system in ((7, "python", 100, 20), (8, "a) b (c", 3, 4)):
        directory = tmp_path / str(pid)
        directory.mkdir()
        fields = ["S", *["0"] * 10, str(user), str(system), "55", "66"]
        (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    assert cpu_seconds([7, 8], tmp_path) == pytest.approx(127 * TICK)


def test_memory_is_in_mib(tmp_path: Path) -> None:
    """The kernel says kB and means KiB."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nVmHWM:\t 9999 kB\nVmRSS:\t 2560 kB\n")
    assert resident_mb(7, tmp_path) == 2.5


def test_a_zombie_has_no_memory(tmp_path: Path) -> None:
    """Its status has no such line."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nState:\tZ (zombie)\n")
    with pytest.raises(ValueError, match="zombie"):
        resident_mb(7, tmp_path)


def test_the_machine_is_busy_with_everything_but_waiting(tmp_path: Path) -> None:
    """Idle and iowait are waiting; guest time is already part of user (proc_stat(5))."""
    (tmp_path / "stat").write_text("cpu  10 1 20 100 5 2 3 4 7 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert machine_cpu(tmp_path) == pytest.approx((40 * TICK, 145 * TICK))
