"""What a host signs with its SSH host key to become a node: one short text, made alike on both sides.

The request's hash is in it, so whoever relays a proof gains a certificate for a key that is not his; the challenge is
the control plane's, good once and for a minute; the SSHSIG namespace keeps the signature from meaning anything else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.model.node import is_node_name

NAMESPACE = "hostmesh-enrolment"
MAX_CHALLENGE_BYTES = 128
MAX_LINE = 64 << 10
"""Of a request to hostmesh-host-key or its answer."""
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")


@dataclass(frozen=True, slots=True)
class Statement:
    """`request_hash` is the SHA-256 of the certificate request as it is sent, 32 bytes.

    Raises:
        ValueError: fields that no enrolment has, so that nothing else can be dressed as one.
    """

    trust_domain: str
    node: str
    request_hash: bytes
    challenge: bytes

    def __post_init__(self) -> None:
        if _TRUST_DOMAIN.fullmatch(self.trust_domain) is None:
            raise ValueError(f"{self.trust_domain[:64]!r} is not a trust domain")
        if not is_node_name(self.node):
            raise ValueError(f"{self.node[:64]!r} is not a node name")
        if len(self.request_hash) != 32:
            raise ValueError("the request's hash is not 32 bytes long")
        if not 0 < len(self.challenge) <= MAX_CHALLENGE_BYTES:
            raise ValueError(f"a challenge is 1 to {MAX_CHALLENGE_BYTES} bytes long")

    def encode(self) -> bytes:
        """The signed bytes."""
        lines = ["hostmesh enrolment 1", self.trust_domain, self.node, self.request_hash.hex(), self.challenge.hex()]
        return "\n".join([*lines, ""]).encode("ascii")


def request_hash(csr_pem: str) -> bytes:
    """Of a certificate request as it is sent."""
    return hashlib.sha256(csr_pem.encode()).digest()


def encode_request(statement: Statement) -> bytes:
    """One line: what the agent asks hostmesh-host-key to sign."""
    fields = {
        "trust_domain": statement.trust_domain,
        "node": statement.node,
        "request_hash": statement.request_hash.hex(),
        "challenge": statement.challenge.hex(),
    }
    return json.dumps(fields).encode() + b"\n"


def decode_request(line: bytes) -> Statement:
    """Inverse of `encode_request`; trusts nothing.

    Raises:
        ValueError: it asks for anything but an enrolment.
    """
    said = json.loads(line)
    if not isinstance(said, dict) or set(said) != {"trust_domain", "node", "request_hash", "challenge"}:
        raise ValueError("the request does not have the fields of an enrolment")
    if not all(isinstance(value, str) for value in said.values()):
        raise ValueError("the fields of an enrolment are text")
    request, challenge = bytes.fromhex(said["request_hash"]), bytes.fromhex(said["challenge"])
    return Statement(said["trust_domain"], said["node"], request, challenge)


def encode_reply(signatures: Iterable[bytes], error: str = "") -> bytes:
    """One line: what hostmesh-host-key answers."""
    return json.dumps({"signatures": [blob.hex() for blob in signatures], "error": error[:1024]}).encode() + b"\n"


def decode_reply(line: bytes) -> tuple[bytes, ...]:
    """The signatures.

    Raises:
        ValueError: there are none; the text says why.
    """
    try:
        said = json.loads(line)
        error, signatures = str(said["error"]), tuple(bytes.fromhex(text) for text in said["signatures"])
    except (ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"unexpected answer: {problem}") from problem
    if error or not signatures:
        raise ValueError(error or "no signature came")
    return signatures
