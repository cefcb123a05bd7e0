"""Resolves hostnames for the proxy workers with the host's own resolver, beside everything else main does."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hostmesh.wire.proto import worker_pb2 as pb

LIFETIME = 30.0
"""Seconds an answer is good: the host's resolver (files, DNS, mDNS, ...) does not tell TTLs; Istio's DNS says 30."""

RETRY = 5.0
"""Seconds until a name that failed is looked up again."""

MAX_PENDING = 256
"""Names being looked up; more are refused, workers ask again."""

THREADS = 4
"""Look-ups at once; a dead DNS server holds each for some seconds, and nothing else with it."""

MAX_ADDRESSES = 64

_HOSTNAME = re.compile(r"(?=.{1,253}\.?\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")

Lookup = Callable[[str], Sequence[str]]
"""Blocks; raises OSError."""


def look_up(hostname: str) -> list[str]:
    """The addresses that programs of this host would get, in the resolver's order."""
    found = socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found if "%" not in str(address[0])))


class NameResolver:
    """Asked by `want`, answers by `tell`; one look-up at a time for each name. `run` owns the look-ups."""

    def __init__(self, tell: Callable[[pb.ToWorker], None], lookup: Lookup = look_up) -> None:
        self._tell = tell
        self._lookup = lookup
        self._pending: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def want(self, hostname: str) -> None:
        """A worker asks: what is no hostname or too much gets its refusal at once."""
        if not _HOSTNAME.fullmatch(hostname):
            self._tell(_answer(hostname[:256], (), "not a hostname"))
        elif hostname in self._pending:
            return
        elif len(self._pending) >= MAX_PENDING:
            self._tell(_answer(hostname, (), "too many names are being looked up"))
        else:
            self._pending.add(hostname)
            self._queue.put_nowait(hostname)

    async def run(self) -> None:
        """Look up until cancelled."""
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="names")
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(THREADS):
                    tasks.create_task(self._work(threads), name="names")
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            hostname = await self._queue.get()
            try:
                addresses = await loop.run_in_executor(threads, self._lookup, hostname)
                answer = _answer(hostname, addresses, "")
            except (OSError, UnicodeError) as error:
                answer = _answer(hostname, (), str(error.args[-1] if error.args else error))
            finally:
                self._pending.discard(hostname)
            self._tell(answer)


def _answer(hostname: str, addresses: Sequence[str], reason: str) -> pb.ToWorker:
    return pb.ToWorker(
        name=pb.NameAnswer(
            hostname=hostname,
            addresses=addresses[:MAX_ADDRESSES],
            lifetime_seconds=LIFETIME if addresses else RETRY,
            reason=f"{hostname}: {reason}" if reason else "",
        )
    )
