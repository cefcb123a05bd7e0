"""HBONE with a real Envoy at the other end, as client of our inbound and as server of our outbound."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE
from tests.support.proxy import Mesh, assert_reset, echo
from tests.support.strangers import STREAMS, body_both_ways, ended, envoy_client, envoy_server, many_streams

from hostmesh.model.identity import Identity
from hostmesh.transport.tls.engine import TlsProvider
from hostmesh.transport.tls.select import provider

pytestmark = pytest.mark.interop


@pytest.fixture(params=["system", "bundled"])
def tls(request: pytest.FixtureRequest) -> TlsProvider:
    """Both of our engines against BoringSSL."""
    return provider(request.param)


def test_envoy_as_client(tls: TlsProvider, tmp_path: Path) -> None:
    """A big body both ways, then more streams at once than one of its connections carries."""
    with Mesh(server_tls=tls) as mesh, mesh.app(echo) as app, envoy_client(mesh, app, tmp_path) as port:

        def dial() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port), PATIENCE)

        with dial() as sock:
            body_both_ways(sock)
        many_streams(dial)
        records = mesh.server.main.wait_logs(1 + STREAMS)
        assert {record.level for record in records} == {"info"}
        assert {dict(record.fields)["src.identity"] for record in records} == {str(ALICE)}


def test_envoy_as_client_refuses_a_wrong_server(tmp_path: Path) -> None:
    """It looks for the identity that it expects in our certificate; ours is another one."""
    carol = Identity("cluster.local", "default", "carol")
    with Mesh() as mesh, mesh.app(echo) as app, envoy_client(mesh, app, tmp_path, expects=carol) as port:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            assert ended(sock)
        assert app.accepted == 0


def test_envoy_as_server(tls: TlsProvider, tmp_path: Path) -> None:
    """Its DATA frames are 16 KiB and it accepts no larger ones; its answer carries more than a status."""
    with Mesh(client_tls=tls) as mesh, mesh.app(echo) as app, envoy_server(mesh, app, tmp_path):
        with mesh.dial() as sock:
            body_both_ways(sock)
        many_streams(mesh.dial)
        records = mesh.client.main.wait_logs(1 + STREAMS)
        assert {record.level for record in records} == {"info"}


def test_envoy_as_server_with_a_wrong_identity_is_refused(tmp_path: Path) -> None:
    """Its certificate is valid and of our trust domain, but names somebody else."""
    carol = Identity("cluster.local", "default", "carol")
    with Mesh() as mesh, mesh.app(echo) as app, envoy_server(mesh, app, tmp_path, carol):
        assert_reset(mesh.dial)
        error = str(dict(mesh.client.main.wait_logs(1)[0].fields)["error"])
        assert "peer did not present the expected SAN" in error
        assert app.accepted == 0


def test_envoy_hears_why_it_is_refused(tmp_path: Path) -> None:
    """An application that is not there closes the client, and the tunnel serves the next one."""
    with Mesh() as mesh, mesh.app(echo) as app, envoy_client(mesh, app, tmp_path) as port:
        address = ("127.0.0.1", port)
        app.close()
        with socket.create_connection(address, PATIENCE) as sock:
            assert ended(sock)
        record = mesh.server.main.wait_logs(1)[0]
        assert dict(record.fields)["error"] == "connection failed: Connection refused (os error 111)"
