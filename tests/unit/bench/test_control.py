"""The measurement of the control plane, on a mesh small enough for a test."""

from __future__ import annotations

import random

import pytest
from bench.control import Measured, Size, _measure, _wants

SIZE = Size(agents=4, workloads=20, services=5, changes=3)


@pytest.mark.parametrize(
    ("agents", "resources"),
    [([()] * 4, 4 * 25), ([tuple(f"ns{n}/s{n}.ns{n}.mesh.internal" for n in range(4))] * 4, 4 * 20)],
    ids=["wildcard", "on demand"],
)
def test_agents_get_all_that_they_want_and_nothing_else(agents: list[tuple[str, ...]], resources: int) -> None:
    """Every process runs, every change reaches whom it concerns, over real TLS."""
    found = _measure(SIZE, agents)
    assert isinstance(found, Measured)
    assert found.resources == resources
    assert 0 < found.change_p50 <= found.change_p99


def test_wanted_services_exist() -> None:
    """All of them where there are fewer than an agent would want."""
    assert len(set(_wants(SIZE, random.Random(1)))) == 5
