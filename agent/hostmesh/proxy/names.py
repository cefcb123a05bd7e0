"""Names: addresses of hostnames as main resolves them (workloads with a hostname and no address), and who waits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hostmesh.model.address import IPAddress
from hostmesh.proxy.waiting import WaitingRoom
from hostmesh.transport.loop import Loop

MAX_NAMES = 4096
"""Hostnames remembered, as many as ztunnel's resolver caches; the one asked for first is forgotten first."""

MAX_LIFETIME = 300.0
"""Seconds that an answer is used at most, whatever it says of itself."""


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[IPAddress, ...]
    until: float


class Names:
    """Look-ups that never block: what is not known is asked for, and the connection waits a bounded time.

    Args:
        loop: its clock says how long an answer is good.
        want: asks main; answered by `put`.
        wait: seconds.
    """

    def __init__(self, loop: Loop, want: Callable[[str], None], wait: float) -> None:
        self._loop = loop
        self._want = want
        self._known: OrderedDict[str, _Answer] = OrderedDict()
        self._waiting: WaitingRoom[str, tuple[IPAddress, ...]] = WaitingRoom(loop, wait)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, hostname: str) -> tuple[IPAddress, ...] | None:
        """Its addresses, none at all if it has none; None when main must be asked."""
        answer = self._known.get(hostname)
        if answer is None:
            return None
        if answer.until <= self._loop.now():
            del self._known[hostname]
            return None
        return answer.addresses

    def wait_for(self, hostname: str, then: Callable[[tuple[IPAddress, ...] | None, str], None]) -> None:
        """Ask main; `then` gets the addresses and `""`, or None and why there are none."""
        asked = self._waiting.has(hostname)
        self._waiting.enter(hostname, f"{hostname} was not resolved in time", then)
        if not asked:
            self._want(hostname)

    def put(self, hostname: str, addresses: tuple[IPAddress, ...], lifetime: float, reason: str = "") -> None:
        """What main found out. Without addresses it counts as well: the next one need not ask at once."""
        self._known.pop(hostname, None)
        self._known[hostname] = _Answer(addresses, self._loop.now() + min(lifetime, MAX_LIFETIME))
        if len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)
        if addresses:
            self._waiting.answer(hostname, addresses)
        else:
            self._waiting.refuse(hostname, reason or f"{hostname} has no address")
