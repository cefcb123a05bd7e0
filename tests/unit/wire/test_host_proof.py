"""Rules for what a host signs: one text for one request, and nothing else fits its form."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from hostmesh.wire.host_proof import Statement, request_hash

FIELDS: dict[str, Any] = {
    "trust_domain": "cluster.local",
    "node": "mesh2",
    "request_hash": request_hash("csr"),
    "challenge": b"\x01\x02",
}


def test_the_text() -> None:
    """As the protocol's definition says it, so that other programs can make it."""
    hashed = hashlib.sha256(b"csr").hexdigest()
    text = f"hostmesh enrolment 1\ncluster.local\nmesh2\n{hashed}\n0102\n"
    assert Statement(**FIELDS).encode() == text.encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trust_domain", "a\nb"),
        ("trust_domain", ""),
        ("node", "mesh2\nx"),
        ("node", ""),
        ("request_hash", b"short"),
        ("challenge", b""),
        ("challenge", b"x" * 129),
    ],
)
def test_what_no_enrolment_says_cannot_be_stated(field: str, value: object) -> None:
    """So a caller of the signer cannot smuggle in lines of his own."""
    with pytest.raises(ValueError, match=r"is not a|is not 32|bytes long"):
        Statement(**FIELDS | {field: value})
