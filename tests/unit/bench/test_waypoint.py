"""What the benchmark says of a waypoint hop."""

from __future__ import annotations

from bench.waypoint import added, table

FOUND = {
    "direct": {"p50_us": 50.0, "p99_us": 90.0, "cpu_us": 0.0},
    "agents": {"p50_us": 200.0, "p99_us": 400.0, "cpu_us": 120.0},
    "agents and waypoint": {"p50_us": 420.0, "p99_us": 900.0, "cpu_us": 350.0},
}


def test_the_hop_is_what_the_waypoint_adds() -> None:
    """The difference to two agents without one, as the last line."""
    assert added(FOUND) == {"p50_us": 220.0, "p99_us": 500.0, "cpu_us": 230.0}
    assert table(FOUND).splitlines()[-1].split() == ["one", "waypoint", "hop", "220", "500", "230"]
