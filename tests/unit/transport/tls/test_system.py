"""What is particular to the system's engine."""

from __future__ import annotations

import os
import ssl

import pytest
from tests.support.pki import Authority

from hostmesh.transport.tls.engine import TlsError
from hostmesh.transport.tls.system import SystemTls

ROOT = Authority()


def test_keys_are_loaded_from_memory_and_nothing_stays_open() -> None:
    """Descriptors before and after are the same, also after a failure."""
    tls, credentials = SystemTls(), ROOT.issue()
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  descriptors by number
    tls.server_context(credentials)
    with pytest.raises(TlsError):
        tls.client_context(type(credentials)(credentials.identity, b"", b"", credentials.roots_pem, 0, 0))
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_library_is_the_interpreters() -> None:
    """Shown to people beside the engine's name."""
    assert (SystemTls().name, SystemTls().library) == ("system", ssl.OPENSSL_VERSION)


def test_a_suite_that_is_not_allowed_ends_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """This `ssl` cannot be told which suites of TLS 1.3 to offer, so the outcome is compared."""
    monkeypatch.setattr("hostmesh.transport.tls.system._SUITES", frozenset({"TLS_AES_128_GCM_SHA256"}))
    tls = SystemTls()
    client = tls.client_context(ROOT.issue()).engine()
    server = tls.server_context(ROOT.issue()).engine()
    client.handshake()
    server.feed(client.pending_out())
    server.handshake()
    client.feed(server.pending_out())
    with pytest.raises(TlsError, match="TLS_AES_256_GCM_SHA384, which is not allowed"):
        client.handshake()
