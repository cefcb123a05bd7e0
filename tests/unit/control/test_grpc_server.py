"""Rules of the TLS port: versions, its certificate's renewal under open connections, and its end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path

import pytest
from tests.support.mesh import Mesh, until

from hostmesh.control.grpc_server import CannotListen, GrpcServer

DAY = 86400.0


async def shown(mesh: Mesh, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[bytes, str | None, str | None]:
    """The certificate, version and protocol that a client meets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(mesh.ca.root_path)
    context.set_alpn_protocols(["h2"])
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED if maximum < ssl.TLSVersion.TLSv1_2 else maximum
    context.maximum_version = maximum
    _, writer = await asyncio.open_connection("127.0.0.1", mesh.port, ssl=context)
    connection = writer.get_extra_info("ssl_object")
    found = connection.getpeercert(binary_form=True), connection.version(), connection.selected_alpn_protocol()
    writer.transport.abort()
    return found


def test_tls_from_1_2_with_h2(tmp_path: Path) -> None:
    """Stock clients speak 1.3; older than 1.2 is refused."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
                assert (await shown(mesh, version))[1:] == (name, "h2")

    asyncio.run(main())


def test_the_certificate_is_renewed_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections meet the new one; open ones go on."""
    monkeypatch.setattr("hostmesh.control.grpc_server._SHORTEST_SLEEP", 0.01)
    monkeypatch.setattr("hostmesh.control.grpc_server._LONGEST_SLEEP", 0.01)

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            first = (await shown(mesh))[0]
            assert (await shown(mesh))[0] == first
            later = time.time() + 16 * DAY
            host = await mesh.host("mesh2")
            async with host.control_plane.connect() as channel:
                await until(lambda: channel._protocol.heard)
                mesh.ca._now = mesh.server._now = lambda: later
                await until(lambda: mesh.server._renew_at > later)
                assert not channel._protocol.handler.connection_lost
            mesh.ca._now = mesh.server._now = time.time
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # it is not valid yet
            _, writer = await asyncio.open_connection("127.0.0.1", mesh.port, ssl=context)
            assert writer.get_extra_info("ssl_object").getpeercert(binary_form=True) != first
            writer.transport.abort()

    asyncio.run(main())


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """With the address and how to find who uses it."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = GrpcServer(mesh.ca, [], hosts=[], bind="127.0.0.1", port=port)
            with pytest.raises(CannotListen, match=rf"cannot listen on 127.0.0.1:{port}: .*ss -tlnp"):
                await server.start()
            await server.stop()

    asyncio.run(main())


def test_stopping_ends_every_connection(tmp_path: Path) -> None:
    """Clients notice at once instead of at their next keep-alive."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            host = await mesh.host("mesh2")
            async with host.control_plane.connect() as channel:
                await until(lambda: channel._protocol.heard)
                await mesh.server.stop()
                await until(lambda: channel._protocol.handler.connection_lost)

    asyncio.run(main())
