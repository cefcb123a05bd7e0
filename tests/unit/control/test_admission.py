"""Rules of the second way in, over real TLS: whoever holds a registered host key is its node, nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel
from tests.support.host_keys import HostKeys
from tests.support.mesh import TRUST_DOMAIN, Mesh

from hostmesh.control.challenges import LIFETIME
from hostmesh.identity.enrolment import EnrolmentRefused, Sign, enrol
from hostmesh.model.node import node_identity
from hostmesh.rpc.failure import ControlPlaneError
from hostmesh.wire.host_proof import Statement, request_hash
from hostmesh.wire.proto.enrolment_grpc import EnrolmentStub
from hostmesh.wire.proto.enrolment_pb2 import ChallengeRequest, EnrolRequest, HostProof
from hostmesh.wire.x509 import new_key_and_csr

KEYS = HostKeys()


def scenario(directory: Path, body: Callable[[Mesh], Coroutine[Any, Any, None]]) -> list[dict[str, Any]]:
    """Run it with mesh2 registered; the audit log afterwards."""
    mesh = Mesh(directory)

    async def main() -> None:
        mesh.nodes.add("mesh2", [KEYS.public[0]])
        async with mesh.serving():
            await body(mesh)

    asyncio.run(main())
    return mesh.audited()


async def refusal(mesh: Mesh, node: str, sign: Sign | None, token: str = "") -> str:
    with pytest.raises(EnrolmentRefused) as caught:
        await enrol(mesh.anonymous(), node, TRUST_DOMAIN, token, sign=sign)
    assert str(caught.value).startswith(f"{caught.value.reason}: ")
    return caught.value.reason


def csr(node: str = "mesh2") -> str:
    return new_key_and_csr(node_identity(TRUST_DOMAIN, node))[1].decode()


async def proof(channel: Channel, request: str, node: str = "mesh2") -> HostProof:
    """An answered challenge for this request on this channel."""
    answer = await EnrolmentStub(channel).Challenge(ChallengeRequest(node=node, csr=request))
    statement = Statement(TRUST_DOMAIN, node, request_hash(request), answer.challenge)
    return HostProof(challenge=answer.challenge, signatures=await KEYS.sign(statement))


async def refused(mesh: Mesh, *requests: EnrolRequest, channel: Channel | None = None) -> str:
    """Each but the last must be admitted; why the last is not."""

    async def send() -> None:
        async with mesh.anonymous().connect() as fresh:
            for request in requests:
                await EnrolmentStub(channel or fresh).Enrol(request)

    with pytest.raises(ControlPlaneError) as caught:
        await send()
    return str(caught.value.detail).partition(":")[0]


def test_a_host_key_makes_a_host_a_node(tmp_path: Path) -> None:
    """As often as it likes, without any secret; one of its keys is enough, and the audit log says which."""

    async def body(mesh: Mesh) -> None:
        for _ in range(2):
            got = await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, sign=KEYS.sign)
            assert got.identity == node_identity(TRUST_DOMAIN, "mesh2")

    entries = scenario(tmp_path, body)
    fingerprint = KEYS.public[0].fingerprint
    assert [(e["event"], e["result"], e["node"], e["host_key"]) for e in entries] == [
        ("enrol", "admitted", "mesh2", fingerprint)
    ] * 2


def test_each_refusal_has_its_own_reason(tmp_path: Path) -> None:
    """Unknown node, wrong key, no proof at all; in the audit log too, with the key that was shown."""

    async def body(mesh: Mesh) -> None:
        assert await refusal(mesh, "mesh3", KEYS.sign) == "NODE_UNKNOWN"
        assert await refusal(mesh, "mesh2", HostKeys().sign) == "HOST_KEY_WRONG"
        assert await refusal(mesh, "mesh2", None) == "PROOF_MISSING"

    entries = scenario(tmp_path, body)
    assert [e["reason"] for e in entries] == ["NODE_UNKNOWN", "HOST_KEY_WRONG", "PROOF_MISSING"]
    assert KEYS.public[0].fingerprint in entries[0]["host_key"]


def test_another_s_public_key_is_worth_nothing(tmp_path: Path) -> None:
    """It is public: what counts is the signature over this very enrolment."""

    async def recorded(statement: Statement) -> tuple[bytes, ...]:
        other = Statement(statement.trust_domain, statement.node, statement.request_hash, b"another challenge")
        return await KEYS.sign(other)

    async def for_another_request(statement: Statement) -> tuple[bytes, ...]:
        return await KEYS.sign(Statement(statement.trust_domain, statement.node, bytes(32), statement.challenge))

    async def body(mesh: Mesh) -> None:
        for sign in (recorded, for_another_request):
            assert await refusal(mesh, "mesh2", sign) == "HOST_KEY_BAD_SIGNATURE"

    scenario(tmp_path, body)


def test_a_recorded_proof_cannot_be_used_again(tmp_path: Path) -> None:
    """Not on its own connection, where it is a replay, and on no other one."""

    async def body(mesh: Mesh) -> None:
        request = csr()
        async with mesh.anonymous().connect() as channel:
            answer = await proof(channel, request)
            sent = EnrolRequest(node="mesh2", csr=request, proof=answer)
            assert await refused(mesh, sent, sent, channel=channel) == "CHALLENGE_REPLAYED"
            assert await refused(mesh, sent) == "CHALLENGE_FOREIGN"

    entries = scenario(tmp_path, body)
    assert [e["result"] for e in entries] == ["admitted", "refused", "refused"]


def test_a_late_answer_is_refused(tmp_path: Path) -> None:
    """The challenge's minute is the control plane's."""

    async def body(mesh: Mesh) -> None:
        request = csr()
        async with mesh.anonymous().connect() as channel:
            answer = await proof(channel, request)
            late = mesh.clock() + LIFETIME + 1
            mesh.clock = lambda: late
            sent = EnrolRequest(node="mesh2", csr=request, proof=answer)
            assert await refused(mesh, sent, channel=channel) == "CHALLENGE_EXPIRED"

    scenario(tmp_path, body)


def test_a_relayed_proof_certifies_nobody_else_s_key(tmp_path: Path) -> None:
    """Who relays it with a request of his own is refused."""

    async def body(mesh: Mesh) -> None:
        async with mesh.anonymous().connect() as channel:
            sent = EnrolRequest(node="mesh2", csr=csr(), proof=await proof(channel, csr()))
            assert await refused(mesh, sent, channel=channel) == "HOST_KEY_BAD_SIGNATURE"

    scenario(tmp_path, body)


def test_a_token_teaches_the_control_plane_the_key(tmp_path: Path) -> None:
    """Next time the host needs no token; a node that an operator registered is taught nothing by tokens."""

    async def body(mesh: Mesh) -> None:
        keys = HostKeys()
        await enrol(mesh.anonymous(), "mesh3", TRUST_DOMAIN, mesh.tokens.mint("mesh3"), sign=keys.sign)
        await enrol(mesh.anonymous(), "mesh3", TRUST_DOMAIN, sign=keys.sign)
        new = HostKeys()  # installed anew, and admitted anew
        await enrol(mesh.anonymous(), "mesh3", TRUST_DOMAIN, mesh.tokens.mint("mesh3"), sign=new.sign)
        assert await refusal(mesh, "mesh3", keys.sign) == "HOST_KEY_WRONG"
        await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, mesh.tokens.mint("mesh2"), sign=new.sign)
        assert await refusal(mesh, "mesh2", new.sign) == "HOST_KEY_WRONG"

    entries = scenario(tmp_path, body)
    assert [e["by"].split()[0] for e in entries if e["event"] == "node"] == ["token", "token"]


def test_a_registered_key_admits_before_a_token_and_uses_it_up_all_the_same(tmp_path: Path) -> None:
    """No open token is left behind."""

    async def body(mesh: Mesh) -> None:
        token = mesh.tokens.mint("mesh2")
        await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, token, sign=KEYS.sign)
        await enrol(mesh.anonymous(), "mesh2", TRUST_DOMAIN, "nonsense", sign=KEYS.sign)
        assert await refusal(mesh, "mesh2", None, token) == "TOKEN_REPLAYED"

    entries = scenario(tmp_path, body)
    assert [bool(e["token"]) for e in entries] == [True, False, True]
    assert all(e["host_key"] for e in entries[:2])


def test_tokens_are_bound_to_place_and_machine(tmp_path: Path) -> None:
    """Used from elsewhere: another network and another machine are told apart; neither burns the token."""

    async def body(mesh: Mesh) -> None:
        keys = HostKeys()
        near = mesh.tokens.mint("mesh3", addresses=["127.0.0.0/8", "2001:db8::/32"])
        far = mesh.tokens.mint("mesh3", addresses=["192.0.2.7"])
        bound = mesh.tokens.mint("mesh3", host_key=keys.public[1].fingerprint)
        assert await refusal(mesh, "mesh3", keys.sign, far) == "TOKEN_WRONG_ADDRESS"
        assert await refusal(mesh, "mesh3", None, bound) == "TOKEN_WRONG_HOST_KEY"
        assert await refusal(mesh, "mesh3", HostKeys().sign, bound) == "TOKEN_WRONG_HOST_KEY"
        await enrol(mesh.anonymous(), "mesh3", TRUST_DOMAIN, near)
        await enrol(mesh.anonymous(), "mesh3", TRUST_DOMAIN, bound, sign=keys.sign)

    entries = scenario(tmp_path, body)
    assert [e["reason"] for e in entries if e["result"] == "refused"] == [
        "TOKEN_WRONG_ADDRESS",
        "TOKEN_WRONG_HOST_KEY",
        "TOKEN_WRONG_HOST_KEY",
    ]


def test_signatures_are_bounded_in_number(tmp_path: Path) -> None:
    """A stranger cannot make the server check a thousand."""

    async def many(statement: Statement) -> tuple[bytes, ...]:
        junk = (await HostKeys().sign(statement)) * 8
        return (*junk, *(await KEYS.sign(statement)))

    async def body(mesh: Mesh) -> None:
        assert await refusal(mesh, "mesh2", many) == "HOST_KEY_WRONG"

    scenario(tmp_path, body)
