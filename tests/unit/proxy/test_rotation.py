"""Rotation under traffic: a hundred certificates (R6), and the root itself (R7), without one failed request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB, Authority, now
from tests.support.proxy import Host, Mesh, echo

from hostmesh.model.identity import Credentials
from hostmesh.model.trust import TrustBundle
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.system import SystemTls


class Traffic:
    """Requests without a pause: each over a connection of its own, and (`keep`) over one that stays open meanwhile."""

    def __init__(self, mesh: Mesh, port: int, *, keep: bool = True) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._mesh = mesh
        self._port = port
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(keep,), daemon=True)
            for keep in ((False, True) if keep else (False,))
        ]

    def _run(self, keep: bool) -> None:
        sock = None
        while not self._stop.is_set():
            try:
                sock = sock or self._mesh.connect(self._port)
                sock.sendall(b"ping")
                if sock.recv(4) != b"ping":
                    raise ConnectionError("closed")
            except OSError as error:
                self.failures.append(f"{'open' if keep else 'new'} connection: {error!r}")
                sock = None
            if sock is not None and not keep:
                sock.close()
                sock = None
            with self._progress:
                self.done += 1
                self._progress.notify_all()
        if sock is not None:
            sock.close()

    def more(self, count: int = 6) -> None:
        """Wait until that many further requests are through."""
        with self._progress:
            goal = self.done + count
            assert self._progress.wait_for(lambda: self.done >= goal, PATIENCE), (
                f"stuck at {self.done}: {self.failures}"
            )

    @contextmanager
    def flowing(self) -> Iterator[Traffic]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(PATIENCE)
        assert self.failures == []


@pytest.fixture(params=[SystemTls, BundledTls], ids=["system", "bundled"])
def mesh(request: pytest.FixtureRequest) -> Iterator[Mesh]:
    with Mesh(client_tls=request.param(), server_tls=request.param()) as made:
        yield made


def trust(host: Host, *roots: Authority) -> None:
    bundle = TrustBundle("cluster.local", b"".join(root.pem for root in roots))
    host.call(lambda: host.server.set_trust(bundle))


def put(host: Host, credentials: Credentials) -> None:
    host.call(lambda: host.server.put_credentials(credentials))


def test_a_hundred_certificates_without_a_failed_request(mesh: Mesh) -> None:
    """Both ends, in turns, each certificate good for two minutes; an open connection lives through all of them."""
    with mesh.app(echo) as app, Traffic(mesh, app.port).flowing() as traffic:
        for number in range(100):
            host, identity = (mesh.client, ALICE) if number % 2 else (mesh.server, BOB)
            put(host, mesh.authority.issue(identity, not_before=now() - 12, not_after=now() + 120))
            traffic.more(2)
        assert traffic.done >= 200


@pytest.mark.parametrize("order", ["client first", "server first"])
def test_a_root_is_replaced_without_a_failed_request(mesh: Mesh, order: str) -> None:
    """Overlap, switch, and after the last old certificate has expired: finish. In either order of the two hosts."""
    old, new = mesh.authority, Authority("new root")
    ends = [(mesh.client, ALICE), (mesh.server, BOB)]
    if order == "server first":
        ends.reverse()
    expiry = now() + 3
    for host, identity in ends:
        put(host, old.issue(identity, not_after=expiry))
    with mesh.app(echo) as app, Traffic(mesh, app.port, keep=False).flowing() as traffic:
        with Traffic(mesh, app.port).flowing() as both:
            for host, _ in ends:
                trust(host, old, new)
                both.more()
            for host, identity in ends:
                put(host, new.issue(identity, roots=old.pem + new.pem))
                both.more()
            assert now() < expiry
        while now() < expiry + 0.1:
            traffic.more()
        for host, _ in ends:
            trust(host, new)
            traffic.more()


def test_a_tunnel_is_replaced_before_the_peers_certificate_expires(mesh: Mesh) -> None:
    """At half of the time that is left; requests notice nothing, streams that live on it end with it."""
    expiry = now() + 6  # a loaded machine may take seconds to dial
    put(mesh.server, mesh.authority.issue(BOB, not_after=expiry))
    with mesh.app(echo) as app, Traffic(mesh, app.port, keep=False).flowing() as traffic:
        traffic.more()
        with mesh.connect(app.port) as sock:
            sock.sendall(b"ping")
            assert sock.recv(4) == b"ping"
            put(mesh.server, mesh.authority.issue(BOB))
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            assert now() > expiry - 1  # certificates count whole seconds
        traffic.more()
    # Both ends watch the time; the one whose timer comes first says why.
    records = [*mesh.client.main.records, *mesh.server.main.records]
    assert "connection closed: certificate expired" in {dict(record.fields).get("error") for record in records}


def test_an_early_switch_would_fail_requests(mesh: Mesh) -> None:
    """What the procedure protects from: a certificate of a root that the other end has not heard of."""
    new = Authority("new root")
    with mesh.app(echo) as app:
        with mesh.connect(app.port) as sock:
            sock.sendall(b"ping")
            assert sock.recv(4) == b"ping"
        put(mesh.client, new.issue(ALICE, roots=mesh.authority.pem + new.pem))
        with pytest.raises(ConnectionResetError), mesh.connect(app.port) as sock:
            sock.recv(1)
