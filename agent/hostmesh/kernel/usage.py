"""What this process uses of its host: processor, memory, descriptors (getrusage(2), proc_pid_statm(5))."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")

AT_ONCE = 500
"""Descriptors that are counted at once where the kernel does not say their number: half a millisecond."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Sizes are in bytes, descriptors `allowed` are the soft limit."""

    cpu_microseconds: int
    virtual_memory: int
    resident_memory: int
    allowed: int


def usage() -> Usage:
    """Now; some ten microseconds."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    size, resident = _STATM.read_text().split()[:2]
    page = resource.getpagesize()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    microseconds = round((spent.ru_utime + spent.ru_stime) * 1_000_000)
    return Usage(microseconds, int(size) * page, int(resident) * page, soft)


def descriptors() -> Iterator[int | None]:
    """Their number at last; None where the caller may do something else before it goes on."""
    told = _DESCRIPTORS.stat().st_size  # since Linux 6.2
    if told:
        yield told
        return
    yield from counted(_DESCRIPTORS)


def counted(folder: Path) -> Iterator[int | None]:
    """How many descriptors a process's folder of /proc shows, one by one, likewise; without the one that looks."""
    count = 0
    with os.scandir(folder) as entries:
        for _ in entries:
            count += 1
            if count % AT_ONCE == 0:
                yield None
    yield count - 1
