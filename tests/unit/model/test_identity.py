"""SPIFFE identities are read strictly and compared exactly; secrets do not leak into logs."""

from __future__ import annotations

import pytest

from hostmesh.model.identity import Credentials, Identity, InvalidIdentity


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("spiffe://cluster.local/ns/shop/sa/api", Identity("cluster.local", "shop", "api")),
        ("spiffe://td/ns//sa/", Identity("td", "", "")),
        ("spiffe:///ns/a/sa/b", Identity("", "a", "b")),
    ],
)
def test_reads_istios_form(text: str, identity: Identity) -> None:
    """Five segments; empty ones are kept as they are, and printing gives the text back."""
    assert Identity.parse(text) == identity
    assert str(identity) == text
    assert identity.principal == text.removeprefix("spiffe://")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cluster.local/ns/shop/sa/api",
        "SPIFFE://td/ns/a/sa/b",
        "https://td/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b/",
        "spiffe://td/ns/a/sa",
        "spiffe://td/NS/a/sa/b",
        "spiffe://td/ns/a/SA/b",
        "spiffe://td/ns/a/sa/b/c",
    ],
)
def test_refuses_everything_else(text: str) -> None:
    """Other schemes and case, missing and surplus segments, a trailing slash."""
    with pytest.raises(InvalidIdentity):
        Identity.parse(text)


def test_private_keys_are_not_printed() -> None:
    """A log line with credentials in it shows whose they are and nothing of the key."""
    credentials = Credentials(Identity("td", "a", "b"), b"KEY-BYTES", b"CHAIN", b"ROOTS", 0.0, 1.0)
    assert "KEY-BYTES" not in repr(credentials)
    assert "service_account='b'" in repr(credentials)
