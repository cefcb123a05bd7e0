"""Pool: client tunnels shared by connections of one workload to one peer (ztunnel's HBONE pool).

A tunnel takes up to a hundred streams, fewer if its peer says so; when all are full another one is dialled, and also
when streams that nobody reads have used up the window that all streams share. Who comes while one is dialled shares its
fate. A tunnel that was full takes new streams again when old ones end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol, TypeVar

from hostmesh.model.identity import Identity
from hostmesh.proxy import failure as failures
from hostmesh.proxy.context import Context
from hostmesh.proxy.dial import Dial, Target
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.handlers import Fields
from hostmesh.proxy.tunnel import Tunnel
from hostmesh.transport.timers import Timer
from hostmesh.wire.http2.errors import ErrorCode

MAX_WAITERS = 4096
"""Connections that may wait for one dial."""

MAX_UNUSED = 512
"""Tunnels without a stream that a worker keeps: who has called thousands of peers need not hold all their sessions."""

DIALS_BETWEEN_LOOKS = 64
"""Dials until unused tunnels are counted again: in proportion to their own cost that is nothing."""

SIDE_BY_SIDE = 4
"""Tunnels to one target at which a stalled one is a reason to dial no more: its peer may just be slow."""


class Candidate(Protocol):
    """A tunnel as the decision sees it."""

    @property
    def usable(self) -> bool:
        """Whether it takes new streams at all."""

    @property
    def streams(self) -> int:
        """Streams in use."""

    @property
    def capacity(self) -> int:
        """Streams it may carry."""

    @property
    def stalled(self) -> bool:
        """Whether a new stream would have to wait for others to be read."""


C = TypeVar("C", bound=Candidate)


def choose(candidates: Iterable[C]) -> C | None:
    """The oldest tunnel with room for one more stream, one that moves before one that does not; None: all are full."""
    stalled = None
    for one in candidates:
        if one.usable and one.streams < one.capacity:
            if not one.stalled:
                return one
            stalled = stalled or one
    return stalled


class Waiter(Protocol):
    """A connection that needs a stream."""

    def tunnel_ready(self, tunnel: Tunnel) -> None:
        """It has room: open the stream now."""

    def tunnel_failed(self, failure: Failure) -> None:
        """There will be none."""


SHORTEST_USE = 1.0
"""Seconds that even a tunnel takes streams whose peer's certificate is about to expire: more dials would not help."""


class PooledTunnel:
    """One tunnel in the pool. It is also the tunnel's owner.

    It takes new streams for half of the time until one of its certificates expires: by then the peer has renewed, and
    the next tunnel is good for longer. Streams that it has may stay to the end.
    """

    __slots__ = ("_pool", "_release", "_replace", "_until", "bucket", "last_used", "retired", "tunnel")

    def __init__(self, pool: Pool, bucket: Bucket, tunnel: Tunnel) -> None:
        self._pool = pool
        self.bucket = bucket
        self.tunnel = tunnel
        self.retired = False
        self.last_used = pool.context.loop.now()
        unused = pool.context.config.pool_unused_release
        self._release: Timer = pool.context.loop.call_later(unused, self._release_if_unused)
        now = pool.context.clock()
        use = max((tunnel.expires - now) / 2, SHORTEST_USE)
        self._until = min(now + use, tunnel.expires)
        self._replace: Timer = pool.context.loop.call_later(use, self.retire)

    @property
    def usable(self) -> bool:
        """Neither retired, as it should be by now if the host has not slept, nor unable to open a stream."""
        return not self.retired and self.tunnel.http2.can_open and self._pool.context.clock() < self._until

    @property
    def streams(self) -> int:
        """Streams in use."""
        return self.tunnel.streams

    @property
    def capacity(self) -> int:
        """The smaller of our own limit and the peer's."""
        return min(self._pool.context.config.pool_max_streams, self.tunnel.http2.remote_max_streams)

    @property
    def stalled(self) -> bool:
        """Its window for all streams is used up."""
        return self.tunnel.http2.stalled

    def retire(self) -> None:
        """Take no new streams; close after the last one."""
        if not self.retired:
            self.retired = True
            self.bucket.tunnels.remove(self)
            self._cancel_timers()
            self._pool.retiring[self] = None
            self._pool.tidy(self.bucket)
            if not self.tunnel.streams:
                self.tunnel.leave()

    def accept_stream(self, tunnel: Tunnel, stream: int, fields: Fields, end: bool) -> None:
        """A server opens no streams."""
        del fields, end
        tunnel.abandon(stream, ErrorCode.PROTOCOL_ERROR)

    def settled(self, tunnel: Tunnel) -> None:
        """A changed limit may let waiters in."""
        del tunnel
        self._pool.serve(self.bucket)

    def going_away(self, tunnel: Tunnel) -> None:
        """The peer takes no new streams."""
        del tunnel
        self.retire()

    def stream_ended(self, tunnel: Tunnel) -> None:
        """Room for one more, or the end of a retired tunnel."""
        self.last_used = self._pool.context.loop.now()
        if not self.retired:
            if self.bucket.waiters:
                self._pool.serve(self.bucket)
        elif not tunnel.streams:
            # At the end of the turn: the stream that ended may still have frames to send before.
            self._pool.context.loop.at_turn_end(tunnel.leave)

    def closed(self, tunnel: Tunnel, failure: Failure | None) -> None:
        """Its socket is gone."""
        del tunnel, failure
        self._cancel_timers()
        self._pool.retiring.pop(self, None)
        if not self.retired:
            self.retired = True
            self.bucket.tunnels.remove(self)
            self._pool.serve(self.bucket)

    def _cancel_timers(self) -> None:
        self._release.cancel()
        self._replace.cancel()

    def _release_if_unused(self) -> None:
        loop, limit = self._pool.context.loop, self._pool.context.config.pool_unused_release
        unused = loop.now() - self.last_used
        if self.tunnel.streams or unused < limit:
            wait = limit if self.tunnel.streams else limit - unused
            self._release = loop.call_later(max(wait, 0.001), self._release_if_unused)
        else:
            self.retire()


class Bucket:
    """The tunnels to one target, oldest first, and who waits for the next one."""

    __slots__ = ("dialling", "target", "tunnels", "waiters")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tunnels: list[PooledTunnel] = []
        self.waiters: deque[Waiter] = deque()
        self.dialling = False


class Pool:
    """All client tunnels of a worker. Those inside a stream of others, which nobody shares, are only listed."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._buckets: dict[str, Bucket] = {}
        self.retiring: dict[PooledTunnel, None] = {}
        self.nested: dict[Tunnel, None] = {}
        self._dials = 0

    def acquire(self, target: Target, key: str, waiter: Waiter) -> None:
        """Answer with a tunnel that has room, at once if there is one.

        Args:
            target: who to reach.
            key: `target.key`.
            waiter: answered exactly once.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(target)
        pooled = None if bucket.waiters else _pick(bucket)
        if pooled is not None:
            waiter.tunnel_ready(pooled.tunnel)
        elif len(bucket.waiters) >= MAX_WAITERS:
            waiter.tunnel_failed(failures.queue_full(target.address))
        else:
            bucket.waiters.append(waiter)
            self._dial(bucket)

    def retire(self, source: Identity) -> None:
        """The identity has new credentials, or none any more: its tunnels take no new streams."""
        for bucket in list(self._buckets.values()):
            if bucket.target.source == source:
                for pooled in list(bucket.tunnels):
                    pooled.retire()

    def tunnels(self) -> list[Tunnel]:
        """All of them, those that take no new streams included."""
        open_ = [pooled.tunnel for bucket in self._buckets.values() for pooled in bucket.tunnels]
        return [*open_, *(pooled.tunnel for pooled in self.retiring), *self.nested]

    def retire_all(self) -> None:
        """The worker drains."""
        for bucket in list(self._buckets.values()):
            for pooled in list(bucket.tunnels):
                pooled.retire()

    def close_all(self, failure: Failure) -> None:
        """End every tunnel, streams included."""
        self.retire_all()
        for pooled in list(self.retiring):
            pooled.tunnel.close(failure)

    def __len__(self) -> int:
        """Tunnels that are open."""
        return len(self.retiring) + sum(len(bucket.tunnels) for bucket in self._buckets.values())

    def serve(self, bucket: Bucket) -> None:
        """Give waiters what room there is; dial for the rest."""
        while bucket.waiters:
            pooled = _pick(bucket)
            if pooled is None:
                self._dial(bucket)
                return
            bucket.waiters.popleft().tunnel_ready(pooled.tunnel)
        self.tidy(bucket)

    def tidy(self, bucket: Bucket) -> None:
        """Forget the target if nothing leads to it any more; a tunnel that still ends may belong to a former bucket."""
        if not bucket.tunnels and not bucket.waiters and not bucket.dialling:
            key = bucket.target.key
            if self._buckets.get(key) is bucket:
                del self._buckets[key]

    def _dial(self, bucket: Bucket) -> None:
        if not bucket.dialling:
            bucket.dialling = True
            Dial(self.context, bucket.target, lambda tunnel, failure: self._dialled(bucket, tunnel, failure)).start()

    def _dialled(self, bucket: Bucket, tunnel: Tunnel | None, failure: Failure | None) -> None:
        bucket.dialling = False
        if tunnel is not None:
            revoked = self.context.revocation.objection(tunnel.parties, "source")  # perhaps while it came up
            if revoked is not None:
                tunnel.close(revoked)
                tunnel, failure = None, revoked
        if tunnel is None:
            assert failure is not None
            waiters, bucket.waiters = bucket.waiters, deque()
            for waiter in waiters:
                slow = choose(bucket.tunnels)
                if slow is not None:
                    waiter.tunnel_ready(slow.tunnel)
                else:
                    waiter.tunnel_failed(failure)
        else:
            pooled = PooledTunnel(self, bucket, tunnel)
            tunnel.hand_over(pooled)
            bucket.tunnels.append(pooled)
        self.serve(bucket)
        self._dials += 1
        if self._dials >= DIALS_BETWEEN_LOOKS:
            self._dials = 0
            self._release_surplus()

    def _release_surplus(self) -> None:
        """Of the tunnels that nobody uses those go that have been unused for longest."""
        unused = [one for bucket in self._buckets.values() for one in bucket.tunnels if not one.streams]
        if len(unused) > MAX_UNUSED:
            unused.sort(key=lambda one: one.last_used)
            for one in unused[:-MAX_UNUSED]:
                one.retire()


def _pick(bucket: Bucket) -> PooledTunnel | None:
    """The tunnel for the next stream; None: another one must be dialled."""
    found = choose(bucket.tunnels)
    return None if found is not None and found.stalled and len(bucket.tunnels) < SIDE_BY_SIDE else found
