"""What a process says of itself, beside what prometheus_client reads of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

from hostmesh.kernel import usage as module
from hostmesh.kernel.usage import descriptors, usage


def test_the_numbers_are_those_of_prometheus() -> None:
    """Two readings of ours around one of the client library's, of values that only grow or stay."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    before = usage()
    known = {sample.name: sample.value for metric in registry.collect() for sample in metric.samples}
    after = usage()
    tick = 1_000_000 / os.sysconf("SC_CLK_TCK")
    cpu = known["process_cpu_seconds_total"] * 1_000_000
    assert before.cpu_microseconds - 2 * tick <= cpu <= after.cpu_microseconds + 2 * tick
    assert after.allowed == known["process_max_fds"]
    for ours, theirs in (("virtual_memory", "virtual"), ("resident_memory", "resident")):
        assert 0.5 < getattr(after, ours) / known[f"process_{theirs}_memory_bytes"] < 2


def test_each_open_descriptor_counts() -> None:
    """By the kernel's own word, or one by one."""
    (before,) = (count for count in descriptors() if count is not None)
    with socket.socket(), socket.socket():
        (count,) = (count for count in descriptors() if count is not None)
    assert count == before + 2


def test_to_count_many_one_by_one_gives_way(tmp_path: Path) -> None:
    """As on kernels before 6.2, whose /proc gives directories no size."""
    many = 2 * module.AT_ONCE + 7
    for number in range(many):
        (tmp_path / str(number)).touch()
    assert [*module.counted(tmp_path)] == [None, None, many]
