"""Scratch memory is the kernel's while nobody writes to it."""

from __future__ import annotations

import resource
from pathlib import Path

from hostmesh.transport import scratch


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_it_costs_nothing_until_it_is_used_and_nothing_afterwards() -> None:
    """Views into it stay valid, and read as zeros."""
    size = 16 << 20
    before = resident()
    view = scratch.shared(size)
    assert resident() - before < size // 4
    view[:] = b"x" * size
    assert resident() - before >= size
    scratch.give_back()
    assert resident() - before < size // 4
    assert view[size // 2] == 0
    view[0] = 1
    assert view[0] == 1


def test_owners_keep_what_is_in_use() -> None:
    """They are asked, and give what they can."""
    asked: list[str] = []
    scratch.when_idle(lambda: asked.append("give"))
    scratch.give_back()
    assert asked == ["give"]
