"""Scratch memory is the kernel's while nobody writes to it."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

from hostmesh.transport import scratch


def resident(view: memoryview) -> int:
    """How many bytes of it are in memory, page by page (proc(5), pagemap): the process as a whole does other things."""
    page = resource.getpagesize()
    first, pages = ctypes.addressof(ctypes.c_char.from_buffer(view)) // page, len(view) // page
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(first * 8)
        entries = memoryview(pagemap.read(pages * 8)).cast("Q")
    return sum(entry >> 63 for entry in entries) * page


def test_it_costs_nothing_until_it_is_used_and_nothing_afterwards() -> None:
    """Views into it stay valid, and read as zeros."""
    size = 16 << 20
    view = scratch.shared(size)
    assert resident(view) == 0
    view[:] = b"x" * size
    assert resident(view) == size
    scratch.give_back()
    assert resident(view) == 0
    assert view[size // 2] == 0
    view[0] = 1
    assert view[0] == 1


def test_owners_keep_what_is_in_use() -> None:
    """They are asked, and give what they can."""
    asked: list[str] = []
    scratch.when_idle(lambda: asked.append("give"))
    scratch.give_back()
    assert asked == ["give"]
