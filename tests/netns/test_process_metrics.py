"""What an agent's processes use, as somebody sees it who scrapes it and can look at each of them."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bench.processes import cpu_seconds, resident_mb
from tests.netns.two_hosts import local_settings
from tests.support.agent import RunningAgent, agent, start, until

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]

WORKERS = 2
ROUNDED = 0.1
"""The kernel shows whole ticks, of each process."""


def scraped(made: RunningAgent) -> dict[str, float]:
    """Those of the process, by name."""
    rows = re.findall(r"^(process_\w+|hostmesh_process_\w+) (\S+)$", made.get(15020, "/metrics"), re.MULTILINE)
    return {name: float(value) for name, value in rows}


def descriptors(pid: int) -> int:
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def limit(pid: int) -> int:
    found = re.search(r"^Max open files +(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def agrees(made: RunningAgent) -> bool:
    """Whether a scrape has the sums; memory and descriptors come and go while one looks."""
    pids = [made.process.pid, *made.workers()]
    told, opened = scraped(made), sum(map(descriptors, pids))
    memory = told["process_resident_memory_bytes"] / sum(map(resident_mb, pids)) / (1 << 20)
    return 0.9 < memory < 1.1 and abs(told["process_open_fds"] - opened) < min(map(descriptors, pids))


def test_a_scrape_tells_of_all_processes(lab: Lab, tmp_path: Path) -> None:
    """Main and workers of another user in one; what a worker has used is not forgotten when it ends."""
    file = tmp_path / "mesh.yaml"
    file.write_text("workloads: []\n")
    with agent(lab.host, tmp_path, lab.a.path) as made:
        made.configure(node="here", **{**local_settings(made, file), "workers": WORKERS})
        start(made)
        until(lambda: len(made.workers()) == WORKERS)
        until(lambda: agrees(made))
        pids = [made.process.pid, *made.workers()]
        least = cpu_seconds(pids)
        before = scraped(made)
        assert least - ROUNDED <= before["process_cpu_seconds_total"] <= cpu_seconds(pids) + ROUNDED
        assert before["process_max_fds"] == sum(map(limit, pids))
        assert 0 < before["hostmesh_process_fds_used_ratio"] < 0.1

        killed = made.workers()[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in made.workers() and len(made.workers()) == WORKERS)
        until(lambda: agrees(made))
        (fresh,) = set(made.workers()) - set(pids)
        used = cpu_seconds([fresh])
        after = scraped(made)
        assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"] + used - ROUNDED
        assert after["process_start_time_seconds"] == before["process_start_time_seconds"]
