"""Rules of snapshots: names, versions by content, differences."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.snapshot import Difference, ResourceSet, Snapshot, content_version, difference
from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.xds.codec import ADDRESS_TYPE, AUTHORIZATION_TYPE, decode_address, decode_authorization

WEB = Workload(uid="c//x/default/web", name="web", namespace="default", addresses=(ip_address("10.0.0.1"),))
SETS = st.dictionaries(st.sampled_from("abcdef"), st.binary(max_size=2))


def test_from_the_model() -> None:
    """Resources are named by their own keys and decode to what they were."""
    service = Service(name="web", namespace="default", hostname="web")
    policy = Authorization("deny", "default", PolicyScope.NAMESPACE, Action.DENY)
    twin = replace(WEB, uid="c//x/default/twin")
    snapshot = Snapshot.of([WEB, twin], [service], [policy])
    assert set(snapshot.addresses.data) == {WEB.uid, twin.uid, "default/web"}
    assert decode_address(snapshot.of_type(ADDRESS_TYPE).data[WEB.uid]) == WEB
    assert decode_authorization(snapshot.of_type(AUTHORIZATION_TYPE).data["default/deny"]) == policy
    assert snapshot.aliases == {"/10.0.0.1": (WEB.uid, twin.uid), "default/web": ("default/web",)}
    assert snapshot.of_type("other") == ResourceSet()


def test_versions_are_content() -> None:
    """Equal over restarts, so they are pinned here."""
    assert Snapshot.of([WEB]).addresses.versions == Snapshot.of([WEB]).addresses.versions
    assert Snapshot.of([WEB]).addresses != Snapshot.of([replace(WEB, node="n")]).addresses
    assert content_version(b"hostmesh") == content_version(b"hostmesh") != content_version(b"hostmesh ")
    assert len(content_version(b"")) == 16


@given(SETS, SETS)
def test_a_difference_turns_one_set_into_the_other(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    """And names nothing that is equal."""
    before, after = ResourceSet.of(old), ResourceSet.of(new)
    found = difference(before.versions, after)
    applied = {name: data for name, data in old.items() if name not in found.removed}
    applied.update({name: after.data[name] for name in found.changed})
    assert applied == new
    assert all(old.get(name) != new[name] for name in found.changed)
    assert difference(after.versions, after) == Difference((), ())
