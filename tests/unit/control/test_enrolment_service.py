"""Rules of enrolment, over real TLS: a token admits its node once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate
from grpclib.client import Channel
from tests.support.mesh import TRUST_DOMAIN, Mesh

from hostmesh.identity.enrolment import EnrolmentRefused, enrol
from hostmesh.model.node import node_identity
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.wire.proto.enrolment_grpc import EnrolmentStub
from hostmesh.wire.proto.enrolment_pb2 import EnrolRequest


def test_a_token_makes_a_host_a_node(tmp_path: Path) -> None:
    """The certificate names the node that the token is bound to, and the audit log says who came."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            got = await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, mesh.tokens.mint("mesh2") + "\n")
            assert got.identity == node_identity(TRUST_DOMAIN, "mesh2")
            assert got.roots_pem == mesh.ca.roots_pem
            (entry,) = mesh.audited()
            assert (entry["event"], entry["result"], entry["node"]) == ("enrol", "admitted", "mesh2")
            assert entry["serial"] == f"{load_pem_x509_certificate(got.chain_pem).serial_number:x}"

    asyncio.run(main())


def test_each_refusal_has_its_own_reason(tmp_path: Path) -> None:
    """Unknown, foreign, revoked and replayed tokens are told apart, for the user and in the audit log."""

    async def refusal(mesh: Mesh, node: str, token: str) -> str:
        with pytest.raises(EnrolmentRefused) as caught:
            await enrol(mesh.anonymous(), node, TRUST_DOMAIN, token)
        assert caught.value.reason in str(caught.value)
        return caught.value.reason

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            token, used = mesh.tokens.mint("mesh2"), mesh.tokens.mint("mesh3")
            revoked = mesh.tokens.mint("mesh2")
            assert mesh.tokens.revoke(revoked.partition(".")[0])
            await enrol(mesh.anonymous(), "mesh3", TRUST_DOMAIN, used)
            assert await refusal(mesh, "mesh2", "nonsense") == "TOKEN_UNKNOWN"
            assert await refusal(mesh, "mesh3", token) == "TOKEN_WRONG_NODE"
            assert await refusal(mesh, "mesh2", revoked) == "TOKEN_REVOKED"
            assert await refusal(mesh, "mesh3", used) == "TOKEN_REPLAYED"
            reasons = [entry["reason"] for entry in mesh.audited() if entry["result"] == "refused"]
            assert reasons == ["TOKEN_UNKNOWN", "TOKEN_WRONG_NODE", "TOKEN_REVOKED", "TOKEN_REPLAYED"]
            assert token.partition(".")[2] not in (tmp_path / "audit.log").read_text()
            await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, token)

    asyncio.run(main())


def test_a_restart_does_not_forget_a_use(tmp_path: Path) -> None:
    """A used token stays used when the control plane is started again on its state."""

    async def main() -> None:
        mesh = Mesh(tmp_path)
        token = mesh.tokens.mint("mesh2")
        async with mesh.serving():
            await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, token)
        mesh.open()
        async with mesh.serving():
            with pytest.raises(EnrolmentRefused, match="TOKEN_REPLAYED"):
                await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, token)

    asyncio.run(main())


@pytest.mark.parametrize(("node", "csr", "word"), [("mesh2", "no request", "cannot be read"), ("a/b", "", "node name")])
def test_a_bad_request_does_not_use_up_the_token(tmp_path: Path, node: str, csr: str, word: str) -> None:
    """Everything else is checked before the token is spent."""

    async def call(channel: Channel, token: str) -> None:
        await EnrolmentStub(channel).Enrol(EnrolRequest(node=node, token=token, csr=csr))

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            token = mesh.tokens.mint("mesh2")
            with pytest.raises(ControlPlaneError, match=word) as caught:
                async with mesh.anonymous().connect() as channel:
                    await call(channel, token)
            assert caught.value.failure is Failure.REFUSED
            await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, token)

    asyncio.run(main())


def test_a_stranger_cannot_make_the_server_collect_a_huge_message(tmp_path: Path) -> None:
    """The announced length is judged before the bytes are taken."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            with pytest.raises(ControlPlaneError, match="RESOURCE_EXHAUSTED"):
                async with mesh.anonymous().connect() as channel:
                    await EnrolmentStub(channel).Enrol(EnrolRequest(node="mesh2", csr="x" * 100_000))

    asyncio.run(main())
