"""Scratch: memory that all connections of a process write to in turn, and that is the kernel's while nobody does."""

from __future__ import annotations

import mmap
from collections.abc import Callable

_givers: list[Callable[[], None]] = []


class Scratch:
    """An anonymous private mapping: the kernel provides a page when it is written, and has all back by `give_back`."""

    __slots__ = ("_memory", "view")

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view = memoryview(self._memory)

    def give_back(self) -> None:
        """What was written is gone: it reads as zeros."""
        self._memory.madvise(mmap.MADV_DONTNEED)


def shared(size: int) -> memoryview:
    """Scratch in which nothing stays between two events of the loop."""
    scratch = Scratch(size)
    _givers.append(scratch.give_back)
    return scratch.view


def when_idle(give_back: Callable[[], None]) -> None:
    """Have this called as well, for scratch whose owner knows what of it is in use."""
    _givers.append(give_back)


def give_back() -> None:
    """Between two events: give back what is in use by nobody."""
    for give in _givers:
        give()
