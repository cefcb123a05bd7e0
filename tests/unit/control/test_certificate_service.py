"""Rules of the certificate service, over real TLS: a node gets its own certificate and those registered on it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Struct
from tests.support.mesh import TRUST_DOMAIN, Mesh, workload

from hostmesh.control.certificate_service import NotEntitled, entitled
from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.failure import FetchFailed
from hostmesh.model.identity import Identity
from hostmesh.model.node import inbound_identity, node_identity
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.wire.proto.ca_grpc import IstioCertificateServiceStub
from hostmesh.wire.proto.ca_pb2 import IstioCertificateRequest
from hostmesh.wire.x509 import new_key_and_csr, spiffe_identities

WEB = workload("web")
NODE = node_identity(TRUST_DOMAIN, "mesh2")

ENTITLEMENTS = [
    (str(WEB), None),
    (str(NODE), None),
    ("", "names no identity"),
    ("spiffe://cluster.local/ns/default", "is none"),
    (str(workload("other")), "not registered on node mesh2"),
    (str(workload("web", "prod")), "not registered on node mesh2"),
    (str(workload("web", trust_domain="evil.example")), "not of this mesh's trust domain"),
    (str(node_identity(TRUST_DOMAIN, "mesh3")), "another node than mesh2"),
    (str(node_identity("evil.example", "mesh2")), "another node"),
    (str(inbound_identity(TRUST_DOMAIN, "mesh3")), "another node than mesh2"),
    (str(inbound_identity(TRUST_DOMAIN, "mesh2")), "no certificates that name several workloads"),
]


@pytest.mark.parametrize(("requested", "refusal"), ENTITLEMENTS)
def test_entitled(requested: str, refusal: str | None) -> None:
    """A node may have its own identity and the workloads registered on it, compared whole."""
    everywhere = {WEB, node_identity(TRUST_DOMAIN, "mesh3"), workload("web", trust_domain="evil.example")}
    if refusal is None:
        assert str(entitled(requested, "mesh2", TRUST_DOMAIN, lambda _node: everywhere)) == requested
    else:
        with pytest.raises(NotEntitled, match=refusal):
            entitled(requested, "mesh2", TRUST_DOMAIN, lambda node: everywhere if node == "mesh2" else set())


def test_one_certificate_for_all_of_a_host_where_it_is_allowed() -> None:
    """Its own only, for somebody, and for no more than a handshake bears."""
    everybody = str(inbound_identity(TRUST_DOMAIN, "mesh2"))
    for count, refusal in ((1, None), (64, None), (0, "0 workload identities"), (65, "65 workload identities")):
        here = {workload(f"w{n}") for n in range(count)}
        if refusal is None:
            found = entitled(everybody, "mesh2", TRUST_DOMAIN, lambda _, here=here: here, shared_inbound=True)
            assert str(found) == everybody
        else:
            with pytest.raises(NotEntitled, match=refusal):
                entitled(everybody, "mesh2", TRUST_DOMAIN, lambda _, here=here: here, shared_inbound=True)
    with pytest.raises(NotEntitled, match="another node than mesh3"):
        entitled(everybody, "mesh3", TRUST_DOMAIN, lambda _: {WEB}, shared_inbound=True)


def test_a_node_gets_the_certificates_registered_on_it(tmp_path: Path) -> None:
    """The certificate comes with the mesh's roots; another node is refused the same identity, and both are audited."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.registered = {"mesh2": {WEB}}
            owner, other = await mesh.host("mesh2"), await mesh.host("mesh3")
            got = await CaClient(owner.control_plane, 3600).fetch(WEB)
            assert (got.identity, got.roots_pem) == (WEB, mesh.ca.roots_pem)
            assert 3600 <= got.not_after - got.not_before <= 3600 + 121
            with pytest.raises(FetchFailed, match="is not registered on node mesh3: apply a WorkloadEntry"):
                await CaClient(other.control_plane, 3600).fetch(WEB)
            issued, refused = [entry for entry in mesh.audited() if entry["event"] == "certificate"]
            assert (issued["result"], issued["node"], issued["identity"]) == ("issued", "mesh2", str(WEB))
            assert (refused["result"], refused["node"], refused["identity"]) == ("refused", "mesh3", str(WEB))

    asyncio.run(main())


def test_a_node_renews_its_own_certificate_with_it(tmp_path: Path) -> None:
    """No token is needed any more; the life is the authority's choice; the new one is used for the next call."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            host = await mesh.host("mesh2")
            renewed = await CaClient(host.control_plane, 60).fetch(NODE)
            assert renewed.not_after - renewed.not_before > 86400
            host.store.save(renewed)
            assert renewed.serial != host.credentials.serial
            assert (await CaClient(host.control_plane, 60).fetch(NODE)).serial != renewed.serial

    asyncio.run(main())


def test_what_the_request_says_about_itself_is_not_believed(tmp_path: Path) -> None:
    """A request whose SAN claims something else gets a certificate for the checked identity only."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.registered = {"mesh2": {WEB}}
            host = await mesh.host("mesh2")
            _, csr = new_key_and_csr(workload("admin"))
            metadata = Struct()
            metadata.update({"ImpersonatedIdentity": str(WEB)})
            request = IstioCertificateRequest(csr=csr.decode(), metadata=metadata)
            async with host.control_plane.connect() as channel:
                response = await IstioCertificateServiceStub(channel).CreateCertificate(request)
            der = ssl.PEM_cert_to_DER_cert(response.cert_chain[0])
            assert spiffe_identities(der) == (WEB,)

    asyncio.run(main())


def test_without_a_node_certificate_nothing_is_signed(tmp_path: Path) -> None:
    """A caller without certificate, and one with a workload's, are told why they are not admitted."""

    async def main() -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.registered = {"mesh2": {WEB}}
            with pytest.raises(FetchFailed, match="UNAUTHENTICATED: no client certificate was presented"):
                await CaClient(mesh.anonymous(), 60).fetch(WEB)
            host = await mesh.host("mesh2")
            host.store.save(await CaClient(host.control_plane, 60).fetch(WEB))
            with pytest.raises(ControlPlaneError, match=f"{WEB} is not a node of this mesh") as caught:
                async with host.control_plane.connect() as channel:
                    await IstioCertificateServiceStub(channel).CreateCertificate(IstioCertificateRequest())
            assert caught.value.failure is Failure.NOT_ADMITTED

    asyncio.run(main())


@pytest.mark.parametrize(("csr", "ttl", "word"), [("x", 60, "cannot be read"), (None, 5, "30 s at least")])
def test_unusable_requests_are_refused_with_the_reason(tmp_path: Path, csr: str | None, ttl: int, word: str) -> None:
    """A node that is entitled still gets nothing for a bad request."""

    async def main(identity: Identity) -> None:
        async with Mesh(tmp_path).serving() as mesh:
            mesh.registered = {"mesh2": {WEB}}
            host = await mesh.host("mesh2")
            metadata = Struct()
            metadata.update({"ImpersonatedIdentity": str(identity)})
            text = csr or new_key_and_csr(identity)[1].decode()
            request = IstioCertificateRequest(csr=text, validity_duration=ttl, metadata=metadata)
            with pytest.raises(ControlPlaneError, match=f"INVALID_ARGUMENT.*{word}"):
                async with host.control_plane.connect() as channel:
                    await IstioCertificateServiceStub(channel).CreateCertificate(request)

    asyncio.run(main(WEB))
