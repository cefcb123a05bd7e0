"""Memory that a process does not need at the moment, given back (madvise(2), malloc_trim(3), proc_pid_smaps(5)).

A process that starts, or makes a TLS handshake, runs far more of its libraries' code than it will run next. Those pages
are the page cache's and need no place in the process; what is run again comes back by a fault, without a read.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_DONT_NEED = 4
_SMAPS = Path("/proc/self/smaps")


_ARENA_MAX = -8
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3


def use_one_arena() -> None:
    """Before there are threads: those that wait for the kernel or a disk need no heap to themselves (mallopt(3))."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_ARENA_MAX, 1)


def keep_freed(largest: int, in_all: int) -> None:
    """Let pages that were freed be used again, instead of the kernel clearing others (mallopt(3)); see `give_back`.

    Args:
        largest: of blocks to which this applies.
        in_all: bytes at the heap's end beyond which they go back at once.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, largest)
        libc.mallopt(_TRIM_THRESHOLD, in_all)


class Memory:
    """Of this process, as it is after its imports: `settle` once, `give_back` whenever it has nothing to do."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._programs: list[tuple[int, int]] = []
        with suppress(OSError), _SMAPS.open(encoding="utf-8", errors="replace") as lines:
            self._programs = list(untouched(lines))

    def settle(self) -> None:
        """At the end of the start, which has left cycles behind."""
        gc.collect()
        self.give_back()

    def give_back(self) -> None:
        """Free heap, and pages of programs; about a millisecond."""
        if hasattr(self._libc, "malloc_trim"):  # glibc's own
            self._libc.malloc_trim(0)
        for start, end in self._programs:
            self._libc.madvise(start, end - start, _DONT_NEED)


def untouched(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Mappings of files that are private, cannot be written, and of which no page has ever been: the file has it all.

    What the loader relocated before it took the right to write away has pages of its own, and is none of them.
    """
    span: tuple[int, int] | None = None
    for line in smaps:
        name, *rest = line.split()
        if not name.endswith(":"):
            start, _, end = name.partition("-")
            of_file = len(rest) > 4 and rest[4].startswith("/")
            span = (int(start, 16), int(end, 16)) if of_file and rest[0] in ("r-xp", "r--p") else None
        elif name == "Anonymous:" and span is not None and rest[0] == "0":
            yield span
