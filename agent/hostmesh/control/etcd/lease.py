"""ProcessLease: keys that depend on this process, under one etcd lease however many they are."""

from __future__ import annotations

import asyncio
import logging

from hostmesh.control.etcd.client import EtcdClient, Refused
from hostmesh.control.etcd.messages import give_back, put
from hostmesh.control.records import StoreUnavailable
from hostmesh.wire.proto import etcd_pb2 as pb
from hostmesh.wire.proto.etcd_grpc import KVStub, LeaseStub

_log = logging.getLogger(__name__)

_BATCH = 100
"""Puts in one transaction; etcd takes 128 unless it is told otherwise."""
_RETRY = 0.5


class _Expired(Exception):
    """etcd does not know the lease any more."""


class ProcessLease:
    """For the event loop that runs it.

    Args:
        client: of the cluster.
        ttl: seconds without renewal after which the keys vanish.
    """

    def __init__(self, client: EtcdClient, ttl: float) -> None:
        self._client = client
        self._ttl = ttl
        self._wanted: dict[bytes, str] = {}
        self._placed: dict[bytes, str] = {}
        self._given_up: set[bytes] = set()
        self._work = asyncio.Event()

    def hold(self, key: bytes, value: str) -> None:
        """Have it there, also if somebody else has written it meanwhile."""
        self._wanted[key] = value
        self._placed.pop(key, None)
        self._given_up.discard(key)
        self._work.set()

    def release(self, key: bytes) -> None:
        """Have it no longer."""
        if self._wanted.pop(key, None) is not None:
            self._given_up.add(key)
            self._work.set()

    async def run(self) -> None:
        """Keep the lease until cancelled."""
        while True:
            try:
                await self._keep(await self._grant())
            except (StoreUnavailable, Refused, _Expired) as error:
                _log.debug("lease: %s", error)
                await asyncio.sleep(_RETRY)

    async def _grant(self) -> int:
        request = pb.LeaseGrantRequest(TTL=max(int(self._ttl), 1))
        response, _ = await self._client.call(lambda channel: LeaseStub(channel).LeaseGrant(request))
        self._placed.clear()
        return response.ID

    async def _keep(self, lease: int) -> None:
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + self._ttl / 3
        while True:
            await self._place(lease)
            try:
                async with asyncio.timeout_at(renew_at):
                    await self._work.wait()
            except TimeoutError:
                await self._renew(lease)
                renew_at = loop.time() + self._ttl / 3

    async def _renew(self, lease: int) -> None:
        response, _ = await self._client.call(
            lambda channel: LeaseStub(channel).LeaseKeepAlive([pb.LeaseKeepAliveRequest(ID=lease)])
        )
        if not response or response[0].TTL <= 0:
            raise _Expired

    async def _place(self, lease: int) -> None:
        self._work.clear()
        missing = {key: value for key, value in self._wanted.items() if self._placed.get(key) != value}
        keys = list(missing)
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            await self._carry_out(pb.TxnRequest(success=[put(key, missing[key], lease) for key in batch]))
            self._placed.update((key, missing[key]) for key in batch if self._wanted.get(key) == missing[key])
        for key in list(self._given_up):
            await self._carry_out(give_back(key, lease))
            self._given_up.discard(key)

    async def _carry_out(self, request: pb.TxnRequest) -> None:
        await self._client.call(lambda channel: KVStub(channel).Txn(request))
