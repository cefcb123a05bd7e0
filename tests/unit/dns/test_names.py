"""Name arithmetic as ztunnel does it."""

from __future__ import annotations

import pytest

from hostmesh.dns.names import candidates, is_within, wildcards


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("name", ["name", "name.ns1.svc.cluster.local"]),
        ("name.ns2", ["name.ns2", "name.ns2.svc.cluster.local", "name.ns2.ns1.svc.cluster.local"]),
        ("name.ns2.svc", ["name.ns2.svc", "name.ns2.svc.cluster.local", "name.ns2.svc.svc.cluster.local"]),
        ("a.b.c", ["a.b.c", "a.b.c.svc.cluster.local"]),
        ("a.b.c.svc", ["a.b.c.svc", "a.b.c.svc.cluster.local"]),
        ("a.b.c.d", ["a.b.c.d"]),
    ],
)
def test_expansions(asked: str, names: list[str]) -> None:
    """Short names may leave out what Kubernetes lets them leave out."""
    assert [one.name for one in candidates(asked, "ns1", "cluster.local")] == names


def test_search_domains() -> None:
    """A resolver may have added one; what is left is looked up as well, and is an alias."""
    found = candidates("www.google.com.ns1.svc.cluster.local", "ns1", "cluster.local")
    aliases = {one.name: one.alias for one in found}
    assert aliases["www.google.com.ns1.svc.cluster.local"] == ""
    assert aliases["www.google.com"] == "www.google.com"
    assert aliases["www.google.com.ns1"] == "www.google.com.ns1"
    assert next(iter(aliases)) == "www.google.com.ns1.svc.cluster.local"
    assert candidates("cluster.local", "ns1", "cluster.local")[0].name == "cluster.local"


def test_wildcards() -> None:
    """From the longest; a single label has none."""
    assert list(wildcards("a.b.c")) == ["*.b.c", "*.c"]
    assert list(wildcards("a")) == []


def test_domains() -> None:
    """The domain itself and what is below; not what only ends like it."""
    assert is_within("svc.cluster.local", ["svc.cluster.local"])
    assert is_within("a.svc.cluster.local", ["x", "svc.cluster.local"])
    assert not is_within("asvc.cluster.local", ["svc.cluster.local"])
