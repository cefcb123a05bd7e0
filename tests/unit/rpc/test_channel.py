"""Rules for channels: every failure of connection or call is explained, against a real TLS server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.support.addresses import free_port
from tests.support.mesh import Mesh, until
from tests.support.patience import PATIENCE
from tests.support.pki import Authority
from tests.support.records import records

from hostmesh.control.ca import CertificateAuthority
from hostmesh.model.endpoint import Endpoint
from hostmesh.rpc.channel import ControlPlane, NodeFiles
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.wire.proto.ca_grpc import IstioCertificateServiceStub
from hostmesh.wire.proto.ca_pb2 import IstioCertificateRequest

DAY = 86400.0


async def call(control_plane: ControlPlane) -> None:
    async with control_plane.connect() as channel:
        await IstioCertificateServiceStub(channel).CreateCertificate(IstioCertificateRequest(), timeout=PATIENCE)


async def failure(control_plane: ControlPlane) -> tuple[Failure, str]:
    with pytest.raises(ControlPlaneError) as caught:
        await call(control_plane)
    return caught.value.failure, str(caught.value)


def test_nobody_listens(tmp_path: Path) -> None:
    """The address, the errno and the next step."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        mesh.port = free_port()
        kind, text = await failure(mesh.anonymous())
        assert kind is Failure.UNREACHABLE
        assert text.startswith(
            f"the control plane 127.0.0.1:{mesh.port} is unreachable: Connection refused (ECONNREFUSED)"
        )

    asyncio.run(main())


def test_the_root_is_missing(tmp_path: Path) -> None:
    """The file is named; so is a node certificate that is not there."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            kind, text = await failure(ControlPlane(mesh.endpoint, tmp_path / "none.pem"))
            assert (kind, "none.pem: the control plane's root certificate cannot be read" in text) == (
                Failure.LOCAL,
                True,
            )
            files = NodeFiles(tmp_path / "key.pem", tmp_path / "key.pem")
            kind, text = await failure(ControlPlane(mesh.endpoint, mesh.ca.root_path, files))
            assert kind is Failure.LOCAL
            assert "key.pem: this node's certificate or its key cannot be read" in text

    asyncio.run(main())


def test_files_are_read_at_each_connection(tmp_path: Path) -> None:
    """What somebody puts there counts from the next one on; while it is no root, there is none."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            file = tmp_path / "root.pem"
            control_plane = ControlPlane(mesh.endpoint, file)
            right = mesh.ca.root_path.read_text()
            for content, expected in (
                ("none", Failure.LOCAL),
                (right, Failure.NOT_ADMITTED),
                (Authority().pem.decode(), Failure.UNTRUSTED),
                (right, Failure.NOT_ADMITTED),
            ):
                file.write_text(content)
                assert (await failure(control_plane))[0] is expected

    asyncio.run(main())


def test_a_foreign_root(tmp_path: Path) -> None:
    """Another mesh's control plane is not believed."""

    async def main() -> None:
        other = CertificateAuthority(tmp_path / "other", "cluster.local", records(tmp_path))
        async with Mesh(tmp_path).serving() as mesh:
            kind, text = await failure(ControlPlane(mesh.endpoint, other.root_path))
            assert kind is Failure.UNTRUSTED
            assert f"{other.root_path} must hold the root certificate of this control plane" in text

    asyncio.run(main())


def test_another_name(tmp_path: Path) -> None:
    """The certificate must carry the name that is configured; `server_name` overrides the address."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            wrong = Endpoint("127.0.0.1", mesh.port, "elsewhere.example")
            kind, text = await failure(ControlPlane(wrong, mesh.ca.root_path))
            assert kind is Failure.UNTRUSTED
            assert "is for another name" in text
            assert "set control_plane.server_name" in text
            right = Endpoint("127.0.0.1", mesh.port, "istiod.istio-system.svc")
            kind, _ = await failure(ControlPlane(right, mesh.ca.root_path))
            assert kind is Failure.NOT_ADMITTED

    asyncio.run(main())


@pytest.mark.parametrize(("shift", "word"), [(-60 * DAY, "has expired"), (DAY, "is not valid yet")])
def test_clock_skew_names_both_clocks(tmp_path: Path, shift: float, word: str) -> None:
    """The usual reason is a clock, so the text says what each of them says."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        mesh.ca = CertificateAuthority(
            tmp_path / "skewed", "cluster.local", records(tmp_path), now=lambda: time.time() + shift
        )
        mesh.server._ca = mesh.ca
        async with mesh.serving():
            kind, text = await failure(mesh.anonymous())
            assert kind is Failure.CLOCK
            assert f"{word}: by the control plane's clock it is valid from 20" in text
            assert "this host's clock says 20" in text

    asyncio.run(main())


def test_a_node_certificate_that_the_control_plane_does_not_accept(tmp_path: Path) -> None:
    """It shows after the handshake only (TLS 1.3) and is explained all the same."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.ca._now = lambda: time.time() - 2 * DAY
            host = await mesh.host("mesh2", mesh.ca._now)
            kind, text = await failure(host.control_plane)
            assert kind is Failure.NOT_ADMITTED
            assert "does not accept this node's certificate. It is valid from" in text
            assert "enrol this node again" in text

    asyncio.run(main())


def test_the_server_goes_away(tmp_path: Path) -> None:
    """A lost connection is no refusal."""

    async def stop_under(mesh: Mesh, control_plane: ControlPlane) -> None:
        async with control_plane.connect() as channel:
            await until(lambda: channel._protocol.heard)
            await mesh.server.stop()
            await IstioCertificateServiceStub(channel).CreateCertificate(IstioCertificateRequest(), timeout=PATIENCE)

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            host = await mesh.host("mesh2")
            with pytest.raises(ControlPlaneError) as caught:
                await stop_under(mesh, host.control_plane)
            assert caught.value.failure in (Failure.UNREACHABLE, Failure.LOST)

    asyncio.run(main())


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    """A call has a deadline."""

    async def wait_in_vain(control_plane: ControlPlane) -> None:
        async with control_plane.connect() as channel:
            stream = IstioCertificateServiceStub(channel).CreateCertificate.open(timeout=0.05)
            async with stream as call_:
                await call_.send_request()
                await call_.recv_message()

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            with pytest.raises(ControlPlaneError, match=r"DEADLINE_EXCEEDED|did not answer in time"):
                await wait_in_vain(host.control_plane)

    asyncio.run(main())


def test_of_several_control_planes_the_next_one_is_tried(tmp_path: Path) -> None:
    """A dead one costs one attempt to connect; then the one that answered is stayed with."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            plane = ControlPlane([Endpoint("127.0.0.1", free_port()), mesh.endpoint], mesh.ca.root_path)
            for _ in range(2):
                async with plane.connect():
                    assert plane.endpoint == mesh.endpoint

    asyncio.run(main())


def test_a_control_plane_that_is_lost_is_left(tmp_path: Path) -> None:
    """What the connection was used for fails, and the next one goes elsewhere; if all are gone, all are named."""

    async def main() -> None:
        dead = Endpoint("127.0.0.1", free_port())
        async with Mesh(tmp_path).serving() as mesh:
            plane = ControlPlane([mesh.endpoint, dead], mesh.ca.root_path)

            async def lose() -> None:
                async with plane.connect() as channel:
                    await mesh.server.stop()
                    await IstioCertificateServiceStub(channel).CreateCertificate(
                        IstioCertificateRequest(), timeout=PATIENCE
                    )

            with pytest.raises(ControlPlaneError):
                await lose()
            assert plane.endpoint == dead
        kind, text = await failure(plane)
        assert kind is Failure.UNREACHABLE
        assert text.count("is unreachable") == 2
        assert str(mesh.endpoint) in text
        assert str(dead) in text

    asyncio.run(main())
