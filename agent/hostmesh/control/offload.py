"""Work that waits for a disk or for etcd, one piece after the other, while the event loop serves everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

ResultT = TypeVar("ResultT")


class Run(Protocol):
    """Runs what it is given, and returns or raises what that does."""

    def __call__(self, work: Callable[[], ResultT], /) -> Awaitable[ResultT]:
        """Run `work`."""
        ...


async def inline(work: Callable[[], ResultT], /) -> ResultT:
    """At once, in the caller's thread."""
    return work()


class Offload:
    """One thread: what it runs is never concurrent with itself."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    async def __call__(self, work: Callable[[], ResultT], /) -> ResultT:
        """As `Run`. What has begun is carried through, even if nobody waits any longer."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Wait for what is running."""
        self._executor.shutdown(cancel_futures=True)
