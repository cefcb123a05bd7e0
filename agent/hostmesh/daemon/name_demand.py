"""NameDemand: whether services have a name, asked of the control plane where the mesh is followed on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from hostmesh.model.service import hostname_alias
from hostmesh.state.store import MeshState

WAIT = 2.0
"""Seconds; resolvers of clients ask again after five."""


class NameDemand:
    """Questions wait for what the control plane says, a bounded time, and not at all while it is away.

    Args:
        state: main's.
        want: asks for a name of `hostname_alias`; the state knows it when `heard` is called.
        connected: whether there is a control plane to ask.
    """

    def __init__(self, state: MeshState, want: Callable[[str], None], connected: Callable[[], bool]) -> None:
        self._state = state
        self._want = want
        self._connected = connected
        self._asking: list[tuple[set[str], asyncio.Event]] = []

    def missing(self, hostnames: Iterable[str]) -> Sequence[str]:
        """Those of which it is not known whether a service has them."""
        return [name for name in hostnames if not self._state.knows_hostname(name)] if self._state.on_demand else []

    async def ask(self, hostnames: Iterable[str]) -> bool:
        """Ask for those that are missing; whether none of them is any more."""
        left, done = {hostname_alias(name) for name in self.missing(hostnames)}, asyncio.Event()
        if left and self._connected():
            waiting = (left, done)
            self._asking.append(waiting)
            try:
                for name in sorted(left):
                    self._want(name)
                with suppress(TimeoutError):
                    async with asyncio.timeout(WAIT):
                        await done.wait()
            finally:
                self._asking.remove(waiting)
        return not self.missing(hostnames)

    def heard(self, names: Iterable[str]) -> None:
        """Of these more will not come: they are known, or cannot be asked for."""
        told = set(names)
        for left, done in self._asking if told else ():
            left -= told
            if not left:
                done.set()
