"""Rules for what a client holds."""

from __future__ import annotations

import pytest

from hostmesh.model.workload import Workload
from hostmesh.xds.codec import (
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
    ENFORCING_TYPES,
    WAYPOINT_TYPES,
    Rejected,
    encode_workload,
)
from hostmesh.xds.held import KEY_OF, Held, Versioned, XdsUpdate


def test_everything_is_told_apart_by_type() -> None:
    """Bytes by name, without versions."""
    held = Held()
    assert not held.everything()
    held.by_type[ADDRESS_TYPE]["a"] = Versioned("1", b"x")
    held.by_type[AUTHORIZATION_TYPE]["p"] = Versioned("2", b"y")
    assert held.everything() == XdsUpdate(addresses={"a": b"x"}, authorizations={"p": b"y"})
    assert held.counts() == (1, 1)


def test_removals_alone_are_news() -> None:
    """An update is empty only if nothing changed."""
    assert XdsUpdate(removed_addresses=("a",))
    assert XdsUpdate(removed_authorizations=("a",))
    assert not XdsUpdate()


def test_each_type_has_a_judge() -> None:
    """It tells the object's own key or why it is refused."""
    assert set(KEY_OF) == {*ENFORCING_TYPES, *WAYPOINT_TYPES}
    data = encode_workload(Workload(uid="u", name="n", namespace="ns")).SerializeToString()
    assert KEY_OF[ADDRESS_TYPE](data) == "u"
    for judge in KEY_OF.values():
        with pytest.raises(Rejected):
            judge(b"\xff")
