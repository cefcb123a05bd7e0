"""Rules for nodes: their names, and their identities apart from workloads'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.identity import Identity
from hostmesh.model.node import NODE_NAMESPACE, is_node_name, node_identity, node_of


@pytest.mark.parametrize("name", ["a", "mesh1", "Mesh-1.example.com", "a_b", "x" * 253])
def test_names(name: str) -> None:
    """Host names as they are, short or full."""
    assert is_node_name(name)
    assert node_of(node_identity("td", name), "td") == name


@pytest.mark.parametrize("name", ["", "-a", "a-", ".", "a/b", "a b", "ä", "a\n", "x" * 254, "../x"])
def test_no_names(name: str) -> None:
    """Nothing that could be a path, a line or another identity."""
    assert not is_node_name(name)
    assert node_of(Identity("td", NODE_NAMESPACE, name), "td") is None


def test_workloads_and_strangers_are_no_nodes() -> None:
    """Namespace and trust domain decide."""
    assert node_of(Identity("td", "default", "mesh1"), "td") is None
    assert node_of(node_identity("other", "mesh1"), "td") is None


@given(st.text())
def test_a_name_survives_the_identity_text(name: str) -> None:
    """What is a node name can be written into a SPIFFE ID and read back."""
    if is_node_name(name):
        assert node_of(Identity.parse(str(node_identity("td", name))), "td") == name
