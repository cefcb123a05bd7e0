"""Rules for callers: exactly one node, named by a verified certificate; messages of bounded size."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from hostmesh.control.peer import NodePeer, authenticate, by_certificate, receive_bounded, send_serialized
from hostmesh.wire.proto.enrolment_pb2 import EnrolRequest

NODE = "spiffe://cluster.local/ns/hostmesh-nodes/sa/mesh2"


class FakeStream:
    """What a grpclib stream offers of its peer and of its bytes."""

    def __init__(self, uris: list[str] | None = None, data: bytes = b"") -> None:
        self.peer = self
        self._stream = self
        self._uris = uris
        self._data = data
        self.taken = 0
        self.sent: list[bytes] = []

    def addr(self) -> tuple[str, int]:
        return ("10.0.0.2", 4711)

    def cert(self) -> dict[str, Any] | None:
        if self._uris is None:
            return None
        names = (("DNS", "mesh2"), *(("URI", uri) for uri in self._uris))
        return {"subjectAltName": names, "notAfter": "Jan  1 00:00:10 1970 GMT", "serialNumber": "0AFF"}

    async def send_data(self, data: bytes) -> None:
        self.sent.append(data)

    async def recv_data(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        self.taken += size
        return taken


def test_a_node_is_who_its_certificate_says() -> None:
    """With its address, the end of its certificate, and that one's number."""
    peer = by_certificate("cluster.local")(FakeStream([NODE]))  # type: ignore[arg-type]
    assert peer == NodePeer("mesh2", "10.0.0.2:4711", 10.0, 0xAFF)


@pytest.mark.parametrize("size", [0, 100, 1 << 20])
def test_a_serialized_message_is_framed_and_a_large_one_not_copied(size: int) -> None:
    """However many slow callers wait to be told the same, it is in memory once."""
    stream, body = FakeStream(), b"x" * size
    asyncio.run(send_serialized(stream, body, b"tail"))  # type: ignore[arg-type]
    assert b"".join(stream.sent) == b"\0" + (size + 4).to_bytes(4, "big") + body + b"tail"
    assert size < 1000 or any(part is body for part in stream.sent)


def test_a_revoked_node_is_nobody() -> None:
    """Whatever TLS thinks of its certificate; the text says where to look."""
    by = by_certificate("cluster.local", lambda peer: peer.serial == 0xAFF)
    with pytest.raises(GRPCError, match="certificate of node mesh2 is revoked; `hostmesh ca revoked`"):
        by(FakeStream([NODE]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uris", "words"),
    [
        (None, "no client certificate was presented"),
        ([], "names 0 URIs"),
        ([NODE, NODE], "names 2 URIs"),
        (["https://x"], "names no node"),
        (["spiffe://cluster.local/ns/default/sa/mesh2"], "is not a node of this mesh"),
        (["spiffe://other/ns/hostmesh-nodes/sa/mesh2"], "is not a node of this mesh"),
        (["spiffe://cluster.local/ns/hostmesh-nodes/sa/"], "is not a node of this mesh"),
    ],
)
def test_everybody_else_is_refused(uris: list[str] | None, words: str) -> None:
    """With the reason."""
    with pytest.raises(GRPCError) as caught:
        authenticate(FakeStream(uris), "cluster.local")  # type: ignore[arg-type]
    assert caught.value.status is Status.UNAUTHENTICATED
    assert words in str(caught.value.message)


def framed(payload: bytes, length: int | None = None, compressed: int = 0) -> bytes:
    return bytes([compressed]) + (len(payload) if length is None else length).to_bytes(4, "big") + payload


async def take(stream: FakeStream) -> EnrolRequest | None:
    return await receive_bounded(stream, EnrolRequest, 100)  # type: ignore[arg-type]


def test_a_message_and_the_end() -> None:
    """As grpclib would give them."""
    request = EnrolRequest(node="mesh2")
    stream = FakeStream(data=framed(request.SerializeToString()))
    assert asyncio.run(take(stream)) == request
    assert asyncio.run(take(stream)) is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (framed(b"", length=101), Status.RESOURCE_EXHAUSTED),
        (framed(b"", length=0xFFFFFFFF), Status.RESOURCE_EXHAUSTED),
        (framed(b"x", compressed=1), Status.UNIMPLEMENTED),
        (framed(b"\xff\xff"), Status.INVALID_ARGUMENT),
    ],
)
def test_what_is_not_taken(data: bytes, status: Status) -> None:
    """Too long is refused before a byte of it is collected."""
    stream = FakeStream(data=data)
    with pytest.raises(GRPCError) as caught:
        asyncio.run(take(stream))
    assert caught.value.status is status
    if status is Status.RESOURCE_EXHAUSTED:
        assert stream.taken == 5
