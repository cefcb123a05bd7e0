"""Rules of the registry: exactly the keys that somebody gave, on disk before anyone is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.host_keys import HostKeys
from tests.support.records import NAME, records, unwritable

from hostmesh.control.nodes import MAX_KEYS, NodeRegistry
from hostmesh.control.records import RecordsBroken
from hostmesh.wire.ssh_key import SshPublicKey

FIRST, SECOND = HostKeys().public
OTHER = HostKeys().public[0]


@pytest.fixture
def registry(tmp_path: Path) -> NodeRegistry:
    return NodeRegistry(records(tmp_path), lambda: 1000.0)


def keys(registry: NodeRegistry, name: str) -> set[SshPublicKey]:
    record = registry.get(name)
    return set(record.keys) if record is not None else set()


def test_keys_are_added_or_replaced(registry: NodeRegistry) -> None:
    """Saying the same once more changes nothing, in whatever order."""
    assert registry.add("mesh2", [FIRST])
    assert registry.add("mesh2", [SECOND])
    assert keys(registry, "mesh2") == {FIRST, SECOND}
    assert not registry.add("mesh2", [SECOND, FIRST, FIRST], replace=True)
    assert registry.add("mesh2", [OTHER], replace=True)
    assert keys(registry, "mesh2") == {OTHER}


def test_removal(registry: NodeRegistry) -> None:
    """Of what is there."""
    registry.add("mesh2", [FIRST])
    assert registry.remove("mesh2")
    assert not registry.remove("mesh2")
    assert registry.records() == []
    assert registry.add("mesh3", [FIRST])


def test_two_hosts_cannot_share_a_key(registry: NodeRegistry) -> None:
    """Clones of one image: each could take the other's place."""
    registry.add("mesh2", [FIRST])
    with pytest.raises(ValueError, match=r"of node mesh3 is that of node mesh2: make new host keys"):
        registry.add("mesh3", [OTHER, FIRST])
    assert registry.get("mesh3") is None


def test_restarts_forget_nothing(registry: NodeRegistry, tmp_path: Path) -> None:
    """And the file is private, though it holds no secret."""
    registry.add("mesh2", [FIRST, SECOND])
    registry.add("mesh3", [OTHER], source="token")
    again = NodeRegistry(records(tmp_path))
    assert again.records() == registry.records()
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_an_operator_s_word_stands_above_a_token_s(registry: NodeRegistry) -> None:
    """The same key is confirmed by an operator, and never the other way round."""
    registry.add("mesh2", [FIRST], source="token")
    assert registry.add("mesh2", [FIRST])
    assert not registry.add("mesh2", [FIRST], source="token")
    assert [record.source for record in registry.records()] == ["operator"]


@pytest.mark.parametrize(("name", "given"), [("a/b", [FIRST]), ("mesh2", [])])
def test_what_cannot_be_registered(registry: NodeRegistry, name: str, given: list[SshPublicKey]) -> None:
    """Names that are no node's, and nodes without a key."""
    with pytest.raises(ValueError, match=r"not a node name|needs a host key"):
        registry.add(name, given)


def test_a_node_has_not_any_number_of_keys(registry: NodeRegistry) -> None:
    """The list does not grow for ever by additions."""
    many = [HostKeys().public[0] for _ in range(MAX_KEYS)]
    registry.add("mesh2", many)
    with pytest.raises(ValueError, match="use --replace"):
        registry.add("mesh2", [FIRST])


def test_a_change_that_cannot_be_recorded_does_not_count(registry: NodeRegistry, tmp_path: Path) -> None:
    """Disk full: everything is as before."""
    with unwritable(tmp_path), pytest.raises(OSError, match=NAME):
        registry.add("mesh2", [FIRST])
    assert registry.get("mesh2") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"name": "a", "keys": ["x"], "source": "operator", "changed": 1}',
        '{"name": "a", "keys": [], "source": "rumour", "changed": 1}',
    ],
)
def test_a_damaged_node_is_an_error_that_names_its_place(tmp_path: Path, content: str) -> None:
    """Passing over it would lock it out without a word."""
    kept = records(tmp_path)
    kept.commit({"nodes/a": content})
    with pytest.raises(RecordsBroken, match=r"records.jsonl: a registered host cannot be read"):
        NodeRegistry(kept).get("a")
