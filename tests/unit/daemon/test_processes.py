"""A scrape sees one agent, not only the process that answers it."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from hostmesh.daemon.processes import whole_agent
from hostmesh.telemetry.metrics import CPU, MAX_FDS, OPEN_FDS, RESIDENT_MEMORY

FULLEST = "hostmesh_process_fds_used_ratio"


def mains() -> list[Metric]:
    return [
        GaugeMetricFamily("hostmesh_xds_connected", "Whether.", 1),
        CounterMetricFamily("process_cpu_seconds", "CPU.", 2.5),
        GaugeMetricFamily("process_resident_memory_bytes", "RSS.", 100),
        GaugeMetricFamily("process_start_time_seconds", "Start.", 1_700_000_000),
        GaugeMetricFamily("process_open_fds", "Open.", 10),
        GaugeMetricFamily("process_max_fds", "Most.", 100),
    ]


def told(*workers: dict[str, float]) -> dict[str, float]:
    return {sample.name: sample.value for metric in whole_agent(mains(), workers) for sample in metric.samples}


def test_what_workers_use_is_added() -> None:
    """Time, memory and descriptors; the start is main's, and what is no process's is left alone."""
    first = {RESIDENT_MEMORY: 30, OPEN_FDS: 90, MAX_FDS: 100}
    second = {RESIDENT_MEMORY: 50, OPEN_FDS: 20, MAX_FDS: 100}
    assert told({CPU: 1_250_000}, first, second) == {
        "hostmesh_xds_connected": 1,
        "process_cpu_seconds_total": 3.75,
        "process_resident_memory_bytes": 180,
        "process_start_time_seconds": 1_700_000_000,
        "process_open_fds": 120,
        "process_max_fds": 300,
        FULLEST: 0.9,
    }


def test_main_may_be_the_fullest_and_workers_may_be_silent() -> None:
    """One that has not reported yet is none; nor does a limit of nothing divide."""
    assert told() == {
        **{sample.name: sample.value for metric in mains() for sample in metric.samples},
        FULLEST: 0.1,
    }
    assert told({OPEN_FDS: 3, MAX_FDS: 0})[FULLEST] == 0.1
