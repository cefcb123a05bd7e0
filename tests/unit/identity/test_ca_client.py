"""Rules for asking for certificates: what can go wrong comes back as one kind of error with a text."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.support.mesh import Mesh, background, until, workload

from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.manager import SecretManager
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Credentials
from hostmesh.rpc.channel import ControlPlane

WEB = workload("web")


def test_keys_are_fresh_and_lifetimes_the_authoritys(tmp_path: Path) -> None:
    """Each request has its own key; what is granted may be less than asked."""

    async def main() -> None:
        async with Mesh(tmp_path, max_ttl=60).serving() as mesh:
            mesh.registered = {"mesh2": {WEB}}
            client = CaClient((await mesh.host("mesh2")).control_plane, 86400)
            one, other = await asyncio.gather(client.fetch(WEB), client.fetch(WEB))
            assert one.key_pem != other.key_pem
            assert one.not_after - one.not_before == 66

    asyncio.run(main())


def test_no_control_plane_is_a_failed_fetch(tmp_path: Path) -> None:
    """With the text for the user."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            host = await mesh.host("mesh2")
        with pytest.raises(FetchFailed, match=r"the control plane 127.0.0.1:\d+ is unreachable: Connection refused"):
            await CaClient(host.control_plane, 60).fetch(WEB)

    asyncio.run(main())


def test_after_a_certificate_of_tomorrow_another_control_plane_is_asked(tmp_path: Path) -> None:
    """The clock of the first runs ahead; of one that is valid nobody is passed over."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.registered = {"mesh2": {WEB}}
            given = (await mesh.host("mesh2")).control_plane
            here, other = given.endpoint, Endpoint("127.0.0.1", 1)
            for behind, next_one in ((0.0, here), (3600.0, other)):
                plane = ControlPlane((here, other), given._roots, given._node)
                issued = await CaClient(plane, 60, now=lambda behind=behind: time.time() - behind).fetch(WEB)
                assert issued.identity == WEB
                assert plane.endpoint == next_one

    asyncio.run(main())


def test_a_manager_over_the_real_authority(tmp_path: Path) -> None:
    """A workload that is registered after it was asked for gets its certificate at the next try."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            given: list[Credentials] = []
            reasons: list[str] = []
            client = CaClient((await mesh.host("mesh2")).control_plane, 60)
            manager = SecretManager(
                client.fetch,
                on_credentials=given.append,
                on_failure=lambda _identity, reason: reasons.append(reason),
                jitter=lambda: 0.0,
            )
            async with background(manager.run()):
                manager.want(WEB, waiting=True)
                await until(lambda: reasons)
                assert "is not registered on node mesh2" in reasons[0]
                mesh.registered = {"mesh2": {WEB}}
                manager.retry_failed()
                await until(lambda: given)
                assert given[0].identity == WEB

    asyncio.run(main())
