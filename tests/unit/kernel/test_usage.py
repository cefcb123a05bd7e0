"""What a process says of itself, beside what prometheus_client reads of it."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

from hostmesh.kernel.usage import AT_ONCE, counted, descriptors, usage


def _at_last(steps: Iterator[int | None]) -> int:
    (count,) = (step for step in steps if step is not None)
    return count


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
    before = _at_last(descriptors())
    with socket.socket(), socket.socket():
        assert _at_last(descriptors()) == before + 2


def test_to_count_many_one_by_one_gives_way() -> None:
    """As on kernels before 6.2, whose /proc gives directories no size: the same number as the kernel's word."""
    before = _at_last(descriptors())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = 2 * AT_ONCE + 7
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, before + many + 64), hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(many):
            opened.enter_context(socket.socket())
        steps = [*counted(Path("/proc/self/fd"))]
    assert steps[-1] == before + many
    assert steps[:-1] == [None] * ((before + many + 1) // AT_ONCE)


def test_descriptors_that_come_and_go_meanwhile_hurt_nobody() -> None:
    """A worker goes on with its connections between two parts; what stays open is counted."""
    before = _at_last(descriptors())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, before + 3 * AT_ONCE + 64), hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        early = [opened.enter_context(socket.socket()) for _ in range(AT_ONCE)]
        for _ in range(AT_ONCE):
            opened.enter_context(socket.socket())
        steps = counted(Path("/proc/self/fd"))
        assert next(steps) is None
        for each in early:
            each.close()
        late = _at_last(steps)
    assert before + AT_ONCE <= late <= before + 2 * AT_ONCE
