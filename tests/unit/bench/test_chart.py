"""The chart in the README is what was measured."""

from __future__ import annotations

import json

import pytest
from tools import bench_chart


def test_the_chart_is_the_results() -> None:
    """Made from bench/results.json; `make documents` makes it again."""
    results = json.loads(bench_chart.RESULTS.read_text(encoding="utf-8"))
    assert bench_chart.CHART.read_text(encoding="utf-8") == bench_chart.chart(results)


def test_the_chart_leaves_nothing_out() -> None:
    """Also what is better elsewhere: every row of the table is in it."""
    results = json.loads(bench_chart.RESULTS.read_text(encoding="utf-8"))
    assert {row["name"] for row in results["rows"]} == set(bench_chart.TITLES)


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_better_one_is_a_full_bar(better: str) -> None:
    """Whichever way the unit goes."""
    found = bench_chart.goodness({"hostmesh": 2.0, "envoy": 4.0, "better": better})
    assert found == ({"hostmesh": 1.0, "envoy": 0.5} if better == "lower" else {"hostmesh": 0.5, "envoy": 1.0})
