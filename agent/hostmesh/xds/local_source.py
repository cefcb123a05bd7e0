"""LocalSource: stands where the xDS client stands when the mesh comes from a file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from hostmesh.xds.client import XdsStatus
from hostmesh.xds.codec import encode_authorization, encode_service, encode_workload
from hostmesh.xds.counts import XdsCounts
from hostmesh.xds.held import XdsUpdate
from hostmesh.xds.local_file import LocalMesh


class LocalSource:
    """In sync from the start, never connected; the file is read again by a reload.

    Args:
        mesh: what the file says.
        on_update: takes all of it, once.
        network_policies: as the control plane would serve them.
        gone: of all that the file says now, what workers of before this reading know and it does not say any more.
    """

    connected = False
    synced = True
    anew = False

    def __init__(
        self,
        mesh: LocalMesh,
        on_update: Callable[[XdsUpdate], None],
        network_policies: Mapping[str, bytes] = MappingProxyType({}),
        gone: Callable[[XdsUpdate], XdsUpdate] = lambda _: XdsUpdate(),
    ) -> None:
        self._on_update = on_update
        self._since = time.time()
        self._everything = XdsUpdate(
            addresses={
                **{one.key: encode_workload(one).SerializeToString() for one in mesh.workloads},
                **{one.key: encode_service(one).SerializeToString() for one in mesh.services},
            },
            authorizations={one.key: encode_authorization(one).SerializeToString() for one in mesh.policies},
            network_policies=network_policies,
        )
        self._gone = gone(self._everything)

    @property
    def counts(self) -> XdsCounts:
        """Nothing: there is no stream."""
        return XdsCounts()

    def everything(self) -> XdsUpdate:
        """All of it, for a new worker."""
        return self._everything

    def status(self) -> XdsStatus:
        """As the xDS client would say it."""
        everything = self._everything
        return XdsStatus(
            connected=False,
            synced=True,
            restored=True,
            not_admitted=False,
            error="",
            since=self._since,
            connections=0,
            responses=0,
            rejected_resources=0,
            addresses=len(everything.addresses),
            authorizations=len(everything.authorizations),
        )

    def want(self, name: str) -> None:
        """Nobody asks: everything is known."""

    def used(self, names: Iterable[str]) -> None:
        """Nobody tells."""

    def retry(self) -> None:
        """There is nobody to ask again."""

    async def run(self) -> None:
        """Hand everything on, and then what has gone: nobody is judged by less than the old or the new."""
        self._on_update(self._everything)
        if self._gone:
            self._on_update(self._gone)
        await asyncio.Event().wait()
