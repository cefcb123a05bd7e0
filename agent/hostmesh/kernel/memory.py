"""Memory that only a process's start needed, given back (madvise(2), malloc_trim(3), proc_pid_smaps(5))."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterable, Iterator
from pathlib import Path

_DONT_NEED = 4
_SMAPS = Path("/proc/self/smaps")


def settle() -> None:
    """Give back what the start has left behind: cycles, free heap, and pages of programs that it alone has run.

    Those pages are the page cache's; what is run again comes back by a fault, without a read. A process that starts
    runs nearly all of its libraries once, and then an eighth of them.
    """
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc's own
        libc.malloc_trim(0)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with _SMAPS.open(encoding="utf-8", errors="replace") as lines:
        found = list(untouched(lines))
    for start, end in found:
        libc.madvise(start, end - start, _DONT_NEED)


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
