"""EtcdRecords: records that several control planes share, in etcd 3.4 or later.

Reads are from a mirror that a watch keeps, writes are transactions that compare modification revisions. A thread of
its own speaks to etcd, so that a store that does not answer stalls whoever waits for it and nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import TimeoutError as Late
from typing import Any, TypeVar

from grpclib.client import Channel

from hostmesh.control.etcd.client import LEADER_NEEDED, EtcdClient, EtcdEndpoints, Refused, tls_context
from hostmesh.control.etcd.lease import ProcessLease
from hostmesh.control.etcd.messages import end_of, put, transaction
from hostmesh.control.etcd.mirror import Event, Mirror
from hostmesh.control.records import Changed, Conflict, Record, StoreUnavailable
from hostmesh.wire.proto import etcd_pb2 as pb
from hostmesh.wire.proto.etcd_grpc import KVStub, WatchStub

_log = logging.getLogger(__name__)

_PAGE = 1000
_RETRY = 0.2
_CATCH_UP = 5.0
"""Seconds that a commit waits until its own change is known here; it is acknowledged in any case."""
_PATIENCE = 30.0
"""Seconds for any one operation, all members and repetitions included."""

ResultT = TypeVar("ResultT")


class EtcdRecords:
    """Call `start` before anything else, and `close` at the end.

    Args:
        endpoints: of the cluster.
        prefix: of all keys; meshes that share an etcd have different ones.
        writer: an identifier of this control plane that no other one has.
        lease_ttl: seconds after which what this control plane holds vanishes with it.
    """

    def __init__(self, endpoints: EtcdEndpoints, *, prefix: str, writer: str, lease_ttl: float) -> None:
        self._endpoints = endpoints
        self._prefix = prefix
        self._writer = f"writers/{writer}"
        self._lease_ttl = lease_ttl
        self._mirror = Mirror()
        self._committing = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="etcd", daemon=True)
        self._listed = threading.Event()
        self._ended = asyncio.Event()
        self._client: EtcdClient
        self._lease: ProcessLease
        self.problem = ""
        """Why what is known here may be old; empty if it is not."""

    @property
    def where(self) -> str:
        """The cluster."""
        return f"{self._endpoints}, {self._prefix}"

    def start(self, timeout: float = _PATIENCE) -> None:
        """Return when everything is known.

        Raises:
            StoreUnavailable: it is not, in that time.
        """
        tls_context(self._endpoints)  # whose files may not be usable
        self._thread.start()
        if not self._listed.wait(timeout):
            why = self.problem or "no answer in time"
            self.close()
            raise StoreUnavailable(str(self._endpoints), why)

    def close(self) -> None:
        """Stop; what is held vanishes after the lease's time, so that another control plane can take it over."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def get(self, key: str) -> Record | None:
        """As `Records.get`."""
        return self._mirror.get(key)

    def under(self, prefix: str) -> Mapping[str, Record]:
        """As `Records.under`."""
        return self._mirror.under(prefix)

    def follow(self, prefix: str, changed: Changed) -> None:
        """As `Records.follow`."""
        self._mirror.follow(prefix, changed)

    def fresh(self, key: str) -> Record | None:
        """As `Records.fresh`: a read that a majority of members agrees with."""
        return self._do(self._fresh(key))

    def commit(
        self, changes: Mapping[str, str | None], *, expect: Mapping[str, int] | None = None, durable: bool = True
    ) -> None:
        """As `Records.commit`."""
        del durable
        with self._committing:
            revision = self._do(self._commit(changes, expect or {}))
        self._mirror.wait_for(revision, _CATCH_UP)

    def hold(self, key: str, value: str) -> None:
        """As `Records.hold`."""
        self._loop.call_soon_threadsafe(self._lease.hold, self._key(key), value)

    def release(self, key: str) -> None:
        """As `Records.release`."""
        self._loop.call_soon_threadsafe(self._lease.release, self._key(key))

    def _key(self, key: str) -> bytes:
        return f"{self._prefix}{key}".encode()

    def _do(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_PATIENCE)
        except Late:
            future.cancel()
            raise StoreUnavailable(str(self._endpoints), "no answer in time") from None

    async def _call(self, invoke: Callable[[Channel], Awaitable[ResultT]]) -> tuple[ResultT, bool]:
        try:
            return await self._client.call(invoke)
        except Refused as refused:
            raise StoreUnavailable(str(self._endpoints), _advice(str(refused))) from refused

    async def _range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        response, _ = await self._call(lambda channel: KVStub(channel).Range(request))
        return response

    async def _fresh(self, key: str) -> Record | None:
        response = await self._range(pb.RangeRequest(key=self._key(key)))
        return _record(response.kvs[0]) if response.kvs else None

    async def _commit(self, changes: Mapping[str, str | None], expect: Mapping[str, int]) -> int:
        """The mark tells, if an answer was lost and the transaction repeated, that the first one was carried out."""
        mark = secrets.token_hex(8)
        request = transaction(self._prefix, changes, expect)
        request.success.append(put(self._key(self._writer), mark))
        response, repeated = await self._call(lambda channel: KVStub(channel).Txn(request))
        if not response.succeeded:
            written = await self._fresh(self._writer) if repeated else None
            if written is None or written.value != mark:
                raise Conflict(", ".join(expect))
        return int(response.header.revision)

    # The thread

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._client = EtcdClient(self._endpoints)
        self._lease = ProcessLease(self._client, self._lease_ttl)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._keep_mirror(), name="mirror"),
                    tasks.create_task(self._lease.run(), name="lease"),
                ]
                await self._ended.wait()
                for task in running:
                    task.cancel()
        finally:
            await self._client.end()

    async def _keep_mirror(self) -> None:
        while True:
            try:
                if self._mirror.revision == 0:
                    await self._list()
                await self._watch()
            except StoreUnavailable as error:
                if not self.problem:
                    _log.warning("%s: what was known goes on to hold until it answers", error)
                self.problem = error.strerror or str(error)
                await asyncio.sleep(_RETRY)

    async def _list(self) -> None:
        found: dict[str, Record] = {}
        start, revision, more = self._prefix.encode(), 0, True
        end = end_of(start)
        while more:
            page = await self._range(pb.RangeRequest(key=start, range_end=end, limit=_PAGE, revision=revision))
            revision = revision or page.header.revision
            found.update((self._name(kv.key), _record(kv)) for kv in page.kvs)
            more = page.more
            start = page.kvs[-1].key + b"\0" if page.kvs else start
        self._mirror.replace(found, revision)

    async def _watch(self) -> None:
        """Follow until the stream ends, or what comes next is gone from etcd (compacted): then all is listed again."""
        key = self._prefix.encode()
        wanted = pb.WatchCreateRequest(key=key, range_end=end_of(key), start_revision=self._mirror.revision + 1)
        async with (
            self._client.member() as channel,
            WatchStub(channel).Watch.open(metadata=LEADER_NEEDED) as stream,
        ):
            await stream.send_message(pb.WatchRequest(create_request=wanted))
            while (response := await stream.recv_message()) is not None:
                if response.compact_revision:
                    _log.info("%s has forgotten the changes since we heard: reading everything", self._endpoints)
                    await self._list()
                    return
                if response.canceled:
                    raise StoreUnavailable(str(self._endpoints), response.cancel_reason or "the watch was cancelled")
                self._take(response)
            raise ConnectionResetError(0, "the watch has ended")

    def _take(self, response: pb.WatchResponse) -> None:
        events: list[Event] = []
        for event in response.events:
            deleted = event.type == pb.Event.EventType.DELETE
            events.append((self._name(event.kv.key), None if deleted else _record(event.kv)))
        if self.problem:
            _log.info("%s answers again", self._endpoints)
            self.problem = ""
        if response.created:
            self._listed.set()
        else:
            self._mirror.advance(events, response.header.revision)

    def _name(self, key: bytes) -> str:
        return key.decode(errors="replace").removeprefix(self._prefix)


def _record(kv: pb.KeyValue) -> Record:
    return Record(kv.value.decode(errors="replace"), kv.mod_revision)


def _advice(text: str) -> str:
    if "too many operations" in text:
        return f"{text}: apply fewer documents at a time, or start etcd with --max-txn-ops=10000"
    if "too large" in text:
        return f"{text}: split the document, or start etcd with a larger --max-request-bytes"
    if "space exceeded" in text:
        return f"{text}: etcd is full; compact and defragment it, then `etcdctl alarm disarm`"
    return text
