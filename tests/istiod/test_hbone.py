"""HBONE with Istio's own implementation in Go at the other end, as a client and as a server."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.addresses import free_port
from tests.support.pki import ALICE, BOB
from tests.support.proxy import App, Mesh, echo, fresh_ip, workload
from tests.support.real_istiod import BUILT
from tests.support.strangers import STREAMS, body_both_ways, ended, many_streams

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity

pytestmark = pytest.mark.interop


@contextmanager
def istios(mesh: Mesh, directory: Path, identity: Identity, *arguments: str) -> Iterator[None]:
    """The program, as that identity; listening."""
    own = mesh.authority.issue(identity)
    files = {"CHAIN": own.chain_pem, "KEY": own.key_pem, "ROOTS": own.roots_pem}
    for name, pem in files.items():
        (directory / name).write_bytes(pem)
    environment = {**os.environ, **{name: str(directory / name) for name in files}}
    with subprocess.Popen([BUILT / "hbone", *arguments], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


@contextmanager
def client(mesh: Mesh, app: App, directory: Path, identity: Identity = ALICE) -> Iterator[int]:
    port = free_port()
    own = (f"127.0.0.1:{port}", f"{mesh.ip}:15008", f"{mesh.ip}:{app.port}")
    with istios(mesh, directory, identity, "client", *own):
        yield port


def dialled(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20)


def test_istio_as_client(tmp_path: Path) -> None:
    """A big body both ways, then many streams at once; its pipes know no half-close."""
    with Mesh() as mesh, mesh.app(echo) as app, client(mesh, app, tmp_path) as port:
        with dialled(port) as sock:
            body_both_ways(sock, half_close=False)
        many_streams(lambda: dialled(port), half_close=False)
        records = mesh.server.main.wait_logs(1 + STREAMS)
        assert {dict(record.fields)["src.identity"] for record in records} == {str(ALICE)}


def test_istio_as_client_is_refused(tmp_path: Path) -> None:
    """Of another trust domain: the application of its side hears an end without a byte."""
    stranger = Identity("evil.example", "default", "alice")
    with Mesh() as mesh, mesh.app(echo) as app, client(mesh, app, tmp_path, stranger) as port:
        with dialled(port) as sock:
            assert ended(sock)
        assert app.accepted == 0


def test_istio_as_server(tmp_path: Path) -> None:
    """Bob behind it; a half-close comes through."""
    ip = fresh_ip()
    with (
        Mesh() as mesh,
        App(ip, echo) as app,
        istios(mesh, tmp_path, BOB, "server", f"{ip}:15008"),
    ):
        mesh.client.put(workload("far", BOB, ip))
        mesh.client.destination = SocketAddress.of(ip, app.port)
        with mesh.dial() as sock:
            body_both_ways(sock)
        many_streams(mesh.dial)
        records = mesh.client.main.wait_logs(1 + STREAMS)
        assert {record.level for record in records} == {"info"}
        assert {dict(record.fields)["dst.identity"] for record in records} == {str(BOB)}
