"""What is particular to one connection of the bundled engine."""

from __future__ import annotations

import gc
import weakref

import pytest
from tests.support.pki import ALICE, BOB, Authority

from hostmesh.transport.tls import bundled_engine
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.bundled_engine import BundledEngine
from hostmesh.transport.tls.engine import TlsError

ROOT = Authority()


def pair() -> tuple[BundledEngine, BundledEngine]:
    tls = BundledTls()
    client = tls.client_context(ROOT.issue(ALICE)).engine()
    server = tls.server_context(ROOT.issue(BOB)).engine()
    for _ in range(3):
        for engine, other in ((client, server), (server, client)):
            engine.handshake()
            view = engine.pending_out()
            other.feed(view)
            engine.sent(len(view))
    return client, server


def test_idle_engines_share_one_output_buffer() -> None:
    """An engine holds a buffer from `pending_out` until all is sent."""
    client, server = pair()
    shared = client._buffers.next
    assert client._buffer is server._buffer is None
    client.write(memoryview(b"x"))
    view = client.pending_out()
    assert client._buffer is shared is not client._buffers.next
    client.sent(len(view) - 1)
    assert client._buffer is shared
    client.sent(1)
    assert client._buffer is None
    assert client._buffers.next is shared


def test_blocked_engines_do_not_share() -> None:
    """What one waits to send, another does not overwrite."""
    client, server = pair()
    client.write(memoryview(b"from the client"))
    waiting = bytes(client.pending_out())
    server.write(memoryview(b"from the server"))
    assert bytes(server.pending_out()) != waiting
    assert bytes(client.pending_out()) == waiting


def test_buffers_that_grew_are_not_kept() -> None:
    """One blocked peer does not make the process larger for good."""
    client, _ = pair()
    for _ in range(6):
        client.write(memoryview(bytes(1 << 19)))
    view = client.pending_out()
    assert len(view) > bundled_engine.OUT_SIZE
    client.sent(len(view))
    kept = [client._buffers.next, *client._buffers._spare]
    assert all(buffer.size == bundled_engine.OUT_SIZE for buffer in kept)
    assert len(kept) <= bundled_engine.SPARE_BUFFERS + 1


def test_a_failed_engine_is_freed_at_once() -> None:
    """Nothing ties it to its own error: memory of refused connections does not wait for the collector."""
    gc.disable()
    try:
        server = BundledTls().server_context(ROOT.issue()).engine()
        server.feed(memoryview(b"GET / HTTP/1.1\r\n\r\n"))
        with pytest.raises(TlsError) as refusal:
            server.handshake()
        freed = []
        weakref.finalize(server._ssl, freed.append, True)
        del refusal, server
        assert freed
    finally:
        gc.enable()
