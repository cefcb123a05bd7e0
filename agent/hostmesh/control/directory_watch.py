"""Follow a tree of documents by inotify, and say when somebody should look at it (inotify(7))."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from hostmesh.kernel.inotify import Inotify

SETTLING = 0.1
"""Seconds in which changes are one: copying ten thousand files must not cause as many looks."""

RETRY = 5.0
"""Seconds until what could not be watched is tried again."""

_log = logging.getLogger(__name__)


async def follow(path: Path, look: Callable[[], None], following: Callable[[bool], None]) -> None:
    """Until cancelled.

    Args:
        path: of the tree; hidden directories do not belong to it.
        look: called soon after a change, and never more often than `SETTLING` allows.
        following: told whether changes will be told of. Where not (no inotify, no more watches), somebody must look
            by himself now and then.
    """
    try:
        inotify = Inotify()
    except OSError as error:
        _log.warning("changes of %s are found by looking twice a second: %s", path, error)
        return
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    with closing(inotify):
        loop.add_reader(inotify.fileno(), changed.set)
        try:
            while True:
                changed.clear()
                inotify.drain()
                complete = await asyncio.to_thread(_watch, inotify, path)
                following(complete)
                look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if complete else RETRY):
                        await changed.wait()
                loop.remove_reader(inotify.fileno())  # it would be called until it is drained
                await asyncio.sleep(SETTLING)
                loop.add_reader(inotify.fileno(), changed.set)
        finally:
            loop.remove_reader(inotify.fileno())
            following(False)


def _watch(inotify: Inotify, path: Path) -> bool:
    """Every directory of the tree; whether changes in all of them will be told."""
    try:
        inotify.watch(str(path))
        for parent, directories, _ in os.walk(path):
            directories[:] = [name for name in directories if not name.startswith(".")]
            for name in directories:
                with suppress(FileNotFoundError):  # removed meanwhile, which was told of its parent
                    inotify.watch(f"{parent}/{name}")
    except OSError as error:
        _log.warning("not all changes of %s are told of: %s", path, error)
        return False
    return True
