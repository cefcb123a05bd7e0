"""Rules for joining: refusals, unreachable control planes and wrong clocks are told apart."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
from tests.support.mesh import TRUST_DOMAIN, Mesh

from hostmesh.control.ca import Issued
from hostmesh.identity.enrolment import EnrolmentRefused, enrol
from hostmesh.rpc.failure import ControlPlaneError, Failure


def test_a_refusal_has_a_reason_and_a_next_step(tmp_path: Path) -> None:
    """The word for programs, the sentence for people."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            with pytest.raises(EnrolmentRefused) as caught:
                await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, "x.y")
            assert caught.value.reason == "TOKEN_UNKNOWN"
            assert str(caught.value).endswith("mint a new one")
            with pytest.raises(EnrolmentRefused, match="is not a node name") as other:
                await enrol(mesh.anonymous(), "no/name", TRUST_DOMAIN, "x.y")
            assert other.value.reason == "REFUSED"

    asyncio.run(main())


def test_an_unreachable_control_plane_is_no_refusal(tmp_path: Path) -> None:
    """The token is still good."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        async with mesh.serving():
            token = mesh.tokens.mint("mesh2")
        with pytest.raises(ControlPlaneError) as caught:
            await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, token)
        assert caught.value.failure is Failure.UNREACHABLE
        mesh.open()
        async with mesh.serving():
            await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, token)

    asyncio.run(main())


def test_a_clock_that_runs_behind_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The certificate is good by the control plane's clock, so it is kept; the user learns why peers will differ."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            late = time.time() - 3600
            await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, mesh.tokens.mint("mesh2"), now=lambda: late)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "this node's new certificate is not valid yet: by the control plane's clock" in caplog.text


def test_an_unusable_answer_is_an_error(tmp_path: Path) -> None:
    """Such as a certificate without its root."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            sign = mesh.ca.sign_node

            def rootless(csr: str, node: str) -> Issued:
                whole = sign(csr, node)
                return Issued(whole.identity, whole.chain[:1], whole.serial, whole.not_after)

            mesh.ca.sign_node = rootless  # type: ignore[method-assign]
            with pytest.raises(ControlPlaneError, match="unusable certificate: no root certificate present"):
                await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, mesh.tokens.mint("mesh2"))

    asyncio.run(main())
