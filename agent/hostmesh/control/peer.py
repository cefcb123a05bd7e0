"""Who calls: the node named by the client certificate of a gRPC connection, and messages of bounded size."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from hostmesh.control.bearer import BadBearer
from hostmesh.model.identity import Identity, InvalidIdentity
from hostmesh.model.node import NODE_NAMESPACE, node_identity, node_of

_Message = TypeVar("_Message", bound=Message)

_SMALL = 16 << 10
"""What is copied rather than sent in several frames."""


@dataclass(frozen=True, slots=True)
class NodePeer:
    """An authenticated node: its name, its address, and its certificate's end (seconds since the epoch) and number.

    A proxy that is known by a bearer token of one workload has that as `workload`, and no node's name.
    """

    node: str
    address: str
    not_after: float
    serial: int = 0
    workload: Identity | None = None

    def identity(self, trust_domain: str) -> Identity:
        """Who calls."""
        return self.workload or node_identity(trust_domain, self.node)


Authenticate = Callable[[Stream[Any, Any]], NodePeer]
"""Tells the calling node of a stream, or raises GRPCError."""


IsRevoked = Callable[[NodePeer], bool]


def nobody_revoked(peer: NodePeer) -> bool:
    """Every certificate is as good as TLS says."""
    del peer
    return False


def by_certificate(trust_domain: str, is_revoked: IsRevoked = nobody_revoked) -> Authenticate:
    """Callers are the nodes that their client certificates name, unless those are revoked."""
    return partial(authenticate, trust_domain=trust_domain, is_revoked=is_revoked)


def by_certificate_or_token(
    trust_domain: str, judge: Callable[[str], tuple[Identity, float]], is_revoked: IsRevoked = nobody_revoked
) -> Authenticate:
    """Who presents no certificate may have a bearer token, as a stock ztunnel.

    Args:
        trust_domain: of the mesh.
        judge: whom a token stands for and until when; raises `BadBearer`.
        is_revoked: tells who may not call any more.
    """

    def by_either(stream: Stream[Any, Any]) -> NodePeer:
        given = str(stream.metadata.get("authorization", "")) if stream.metadata else ""
        if stream.peer.cert() or not given:
            return authenticate(stream, trust_domain, is_revoked)
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthenticated(f"the authorization is not Bearer but {scheme[:32]!r}")
        try:
            identity, not_after = judge(token.strip())
        except BadBearer as error:
            raise _unauthenticated(str(error)) from error
        node = node_of(identity, trust_domain)
        name, workload = (node, None) if node else (f"{identity.namespace}/{identity.service_account}", identity)
        peer = NodePeer(name, address_of(stream), not_after, workload=workload)
        if is_revoked(peer):
            raise _unauthenticated(f"{identity} is revoked; `hostmesh ca revoked` on the control plane says why")
        return peer

    return by_either


def address_of(stream: Stream[Any, Any]) -> str:
    """`ip:port` of the caller, for logs."""
    peer = stream.peer.addr()
    return f"{peer[0]}:{peer[1]}" if peer else "unknown"


def ip_of(stream: Stream[Any, Any]) -> str:
    """The caller's IP address as the operator writes it; empty if the connection is gone."""
    peer = stream.peer.addr()
    return str(peer[0]).removeprefix("::ffff:") if peer else ""


def authenticate(stream: Stream[Any, Any], trust_domain: str, is_revoked: IsRevoked = nobody_revoked) -> NodePeer:
    """The node that calls, as its certificate says; TLS has verified that certificate against the mesh's root.

    Raises:
        GRPCError: UNAUTHENTICATED, with the reason and the next step.
    """
    certificate = stream.peer.cert()
    if not certificate:
        raise _unauthenticated("no client certificate was presented; enrol this node first")
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    if len(uris) != 1:
        raise _unauthenticated(f"the client certificate names {len(uris)} URIs instead of one node")
    try:
        identity = Identity.parse(uris[0])
    except InvalidIdentity as error:
        raise _unauthenticated(f"the client certificate names no node: {error}") from error
    node = node_of(identity, trust_domain)
    if node is None:
        raise _unauthenticated(
            f"{identity} is not a node of this mesh; nodes are spiffe://{trust_domain}/ns/{NODE_NAMESPACE}/sa/<node>"
        )
    not_after = float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
    peer = NodePeer(node, address_of(stream), not_after, int(str(certificate["serialNumber"]), 16))
    if is_revoked(peer):
        raise _unauthenticated(
            f"the certificate of node {node} is revoked; `hostmesh ca revoked` on the control plane says why"
        )
    return peer


async def receive_bounded(stream: Stream[_Message, Any], kind: type[_Message], limit: int) -> _Message | None:
    """The next message, None at the end of the stream.

    grpclib would collect whatever length the caller announces, up to 4 GiB, so its framing is read here.

    Args:
        stream: of the call.
        kind: of message.
        limit: longest message taken, in bytes.

    Raises:
        GRPCError: RESOURCE_EXHAUSTED or INVALID_ARGUMENT.
    """
    raw = stream._stream  # noqa: SLF001  # there is no public door to the bytes
    header = await raw.recv_data(5)
    if not header:
        return None
    compressed, length = struct.unpack(">?I", header)
    if compressed:
        raise GRPCError(Status.UNIMPLEMENTED, "compressed messages are not supported")
    if length > limit:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, f"a message of {length} bytes is longer than {limit}")
    try:
        return kind.FromString(await raw.recv_data(length))
    except DecodeError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, f"the message is not a {kind.DESCRIPTOR.full_name}") from error


async def send_serialized(stream: Stream[Any, Any], body: bytes, tail: bytes) -> None:
    """Send one message that is serialized already, in two parts; waits while the caller does not read.

    A large body is not copied: a thousand slow callers that are told the same wait on the same bytes.
    """
    raw = stream._stream  # noqa: SLF001  # there is no public door to the bytes
    header = struct.pack(">?I", False, len(body) + len(tail))
    if len(body) <= _SMALL:
        await raw.send_data(header + body + tail)
        return
    for part in (header, body, tail):
        await raw.send_data(part)


def unavailable(error: Exception) -> GRPCError:
    """What a caller is told whose request could not be written down; another control plane may do better."""
    why = str(error) if not isinstance(error, OSError) else f"{error.filename or 'state'}: {error.strerror or error}"
    return GRPCError(Status.UNAVAILABLE, f"the control plane cannot write down what it would grant: {why}")


def _unauthenticated(reason: str) -> GRPCError:
    return GRPCError(Status.UNAUTHENTICATED, reason)
