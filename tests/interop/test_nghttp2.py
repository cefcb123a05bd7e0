"""HBONE with the tools of nghttp2 at the other end: nghttpx in both roles, nghttp and h2load as clients.

nghttpx ends a tunnel when one side has ended: half-closes are proved with Envoy.
"""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest
from tests.support import nghttpx
from tests.support.addresses import free_port
from tests.support.hbone_peer import context
from tests.support.http2_relay import Relay
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB
from tests.support.proxy import App, Mesh, echo, fresh_ip, workload
from tests.support.strangers import body_both_ways, many_streams

from hostmesh.model.address import SocketAddress

pytestmark = pytest.mark.interop


def test_nghttpx_as_server(tmp_path: Path) -> None:
    """A big body both ways and many streams, whose authorities it follows."""
    ip = fresh_ip()
    with Mesh() as mesh, App(ip, echo) as app, nghttpx.server((ip, 15008), mesh.authority.issue(BOB), tmp_path):
        mesh.client.put(workload("far", BOB, ip))
        mesh.client.destination = SocketAddress.of(ip, app.port)
        with mesh.dial() as sock:
            body_both_ways(sock, half_close=False)
        many_streams(mesh.dial, half_close=False)


def test_nghttpx_as_client(tmp_path: Path) -> None:
    """The same in the other direction; it hears 400 for an authority that is not ours."""
    port = free_port()
    with (
        Mesh() as mesh,
        mesh.app(echo) as app,
        nghttpx.client(port, (mesh.ip, 15008), mesh.authority.issue(ALICE), tmp_path),
    ):

        def dial() -> socket.socket:
            status, sock = nghttpx.connect(port, f"{mesh.ip}:{app.port}")
            assert status == "200"
            return sock

        with dial() as sock:
            body_both_ways(sock, half_close=False)
        many_streams(dial, half_close=False)
        status, sock = nghttpx.connect(port, f"192.0.2.1:{app.port}")
        sock.close()
        assert status == "400"


def test_nghttp_is_told_that_get_is_no_connect(tmp_path: Path) -> None:
    """A GET over mutual TLS is answered by 400; a CONNECT with a path is no CONNECT, and its stream is reset."""
    with Mesh() as mesh:
        chain, key, _ = nghttpx.write_credentials(tmp_path, mesh.authority.issue(ALICE))
        command = ["nghttp", "-v", f"--cert={chain}", f"--key={key}", f"https://{mesh.ip}:15008/"]
        get = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
        assert ":status: 400" in get
        command.insert(1, "--header=:method: CONNECT")
        connect = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
        assert "recv RST_STREAM frame" in connect
        assert "error_code=PROTOCOL_ERROR" in connect


def test_h2load_gets_every_answer(tmp_path: Path) -> None:
    """3,000 tunnels over four connections, thirty at a time on each."""

    def answer(sock: socket.socket) -> None:
        assert sock.recv(1) == b""
        sock.sendall(b"x" * 2000)

    with Mesh() as mesh, mesh.app(answer) as app:
        alice = mesh.authority.issue(ALICE)
        tls = context(alice, alice.roots_pem, server=False)
        with Relay((mesh.ip, 15008), tls, f"{mesh.ip}:{app.port}") as relay:
            command = ["h2load", "-n3000", "-c4", "-m30", f"http://127.0.0.1:{relay.port}/"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=True).stdout
        assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said
        body = re.search(r"\((\d+)\) data", said)
        assert body is not None
        assert int(body[1]) == 3000 * 2000
