"""The document store in a running control plane: one change at a time, off the event loop, published when it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from hostmesh.config.strict_yaml import Problem
from hostmesh.control.apply import Input, Result
from hostmesh.control.documents.read import ObjectKey
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.presence import Presence, Rotation
from hostmesh.control.snapshot import Snapshot, SnapshotMaker
from hostmesh.control.store import DocumentSet, DocumentStore
from hostmesh.control.translate import Translation
from hostmesh.model.identity import Identity

ResultT = TypeVar("ResultT")

POLL_INTERVAL = 0.5
"""Seconds between looks at a directory that has just changed, or whose changes nobody tells of. A change is live after
one to two of them."""

QUIET_INTERVAL = 5.0
"""Seconds between looks where changes are told of: a file system of several hosts tells of its own host's only."""


class LiveDocuments:
    """Serializes all work on the store and tells `publish` about every new translation.

    Args:
        store: used by nobody else.
        publish: called on the event loop.
        presence: which hosts and workloads are not in rotation; call `look` when it has changed.
    """

    def __init__(
        self,
        store: DocumentStore,
        publish: Callable[[Snapshot], None],
        presence: Callable[[], Presence] = Presence,
    ) -> None:
        self._store = store
        self._publish = publish
        self._presence = presence
        self._published: Translation | None = None
        self._rotation = Rotation()
        self._maker = SnapshotMaker()
        self._absent = Presence()
        self._told: Translation | None = None
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._followed = False
        self.started = asyncio.Event()

    @property
    def current(self) -> DocumentSet | None:
        """What is live; None before the first good set."""
        return self._store.current

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps the directory's present content from being live."""
        return self._store.problems

    @property
    def told(self) -> Translation | None:
        """What agents are told: what is live, less who is not in rotation."""
        return self._told

    def registered(self, node: str) -> frozenset[Identity]:
        """Identities that the node's agent may have certificates for."""
        return self._published.registrations.get(node, frozenset()) if self._published else frozenset()

    async def watch(self) -> None:
        """Load the documents, then follow the directory until cancelled."""
        await self._do(self._store.start)
        self.started.set()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._news.wait()
            self._news.clear()
            await self._do(self._store.refresh)

    def look(self) -> None:
        """There is something new: do not wait until the next look."""
        self._news.set()

    def follow(self, followed: bool) -> None:
        """Whether somebody calls `look` when the documents have changed."""
        self._followed = followed

    @property
    def _interval(self) -> float:
        return QUIET_INTERVAL if self._followed and self._store.settled else POLL_INTERVAL

    async def use(self, mesh: MeshConfig) -> None:
        """Translate by these facts from now on."""
        await self._do(lambda: self._store.use(mesh))

    async def apply(self, inputs: Sequence[Input], *, dry_run: bool) -> Result:
        """As DocumentStore.apply; what was applied is published when this returns."""
        return await self._do(lambda: self._store.apply(inputs, dry_run=dry_run))

    async def replace(self, name: str, new: Input, *, dry_run: bool) -> Result:
        """As DocumentStore.replace."""
        return await self._do(lambda: self._store.replace(name, new, dry_run=dry_run))

    async def delete(self, key: ObjectKey, *, dry_run: bool) -> Result:
        """As DocumentStore.delete."""
        return await self._do(lambda: self._store.delete(key, dry_run=dry_run))

    async def _do(self, work: Callable[[], ResultT]) -> ResultT:
        async with self._turn:
            try:
                return await asyncio.to_thread(work)
            finally:
                await self._publish_news()

    async def _publish_news(self) -> None:
        current, presence = self._store.current, self._presence()
        if current is None or (current.translation is self._published and presence == self._absent):
            return
        self._published, self._absent = current.translation, presence
        told, before = await asyncio.to_thread(self._rotation.told, current.translation, presence), self._told
        self._told = told
        if before is None or _told(before) != _told(told):
            self._publish(await asyncio.to_thread(_snapshot, told, self._maker))


def _told(translation: Translation) -> tuple[object, ...]:
    """What agents see of a translation."""
    return (
        translation.workloads,
        translation.services,
        translation.authorizations,
        translation.network_policies,
        translation.waypoints,
    )


def _snapshot(translation: Translation, maker: SnapshotMaker) -> Snapshot:
    return maker.make(
        translation.workloads,
        translation.services,
        translation.authorizations,
        translation.network_policies,
        translation.waypoints,
    )
