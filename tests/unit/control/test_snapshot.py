"""Rules of snapshots: names, versions by content, differences."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.control.snapshot import Difference, ResourceSet, SnapshotMaker, content_version, difference
from hostmesh.model.address import GatewayAddress, NamespacedHostname
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
    snapshot = SnapshotMaker().make([WEB, twin], [service], [policy])
    assert set(snapshot.addresses.data) == {WEB.uid, twin.uid, "default/web"}
    assert decode_address(snapshot.of_type(ADDRESS_TYPE).data[WEB.uid]) == WEB
    assert decode_authorization(snapshot.of_type(AUTHORIZATION_TYPE).data["default/deny"]) == policy
    assert snapshot.aliases.exact == {
        "/10.0.0.1": {WEB.uid, twin.uid},
        "default/web": {"default/web"},
        "hostmesh.io/host/web": {"default/web"},
    }
    assert snapshot.of_type("other") == ResourceSet()


def test_what_no_proxy_would_take_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    """The rest is, the last good state stays, and the log says it once: one NACK keeps a stock ztunnel unready."""
    maker, other = SnapshotMaker(), replace(WEB, uid="c//x/default/other")
    before = maker.make([WEB, other])
    waypoint = GatewayAddress(NamespacedHostname("default", "gate"), 1 << 17)
    for _ in range(2):
        after = maker.make([replace(WEB, waypoint=waypoint), replace(other, node="n")])
        assert after.addresses.data[WEB.uid] == before.addresses.data[WEB.uid]
        assert after.addresses.versions[other.uid] != before.addresses.versions[other.uid]
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [WEB.uid]
    assert WEB.uid not in SnapshotMaker().make([replace(WEB, waypoint=waypoint)]).addresses.data


def test_what_has_not_changed_is_not_serialized_again() -> None:
    """Equal models share bytes, and the parts of responses that were made of them."""
    maker = SnapshotMaker()
    first = maker.make([WEB]).addresses
    entry = first.entry(ADDRESS_TYPE, WEB.uid)
    second = maker.make([replace(WEB)]).addresses
    assert second.data[WEB.uid] is first.data[WEB.uid]
    assert second.entry(ADDRESS_TYPE, WEB.uid) is entry


def test_versions_are_content() -> None:
    """Equal over restarts, so they are pinned here."""
    assert SnapshotMaker().make([WEB]).addresses.versions == SnapshotMaker().make([WEB]).addresses.versions
    assert SnapshotMaker().make([WEB]).addresses != SnapshotMaker().make([replace(WEB, node="n")]).addresses
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
