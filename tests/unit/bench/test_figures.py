"""The arithmetic of the table: medians, ratios, the shape of the results."""

from __future__ import annotations

import json

import pytest
from bench import figures
from bench.figures import BULK, CONNECTIONS, Row, Sample

NAMES = [
    "bulk_1_stream_up",
    "bulk_1_stream_down",
    "bulk_16_streams_up",
    "bulk_16_streams_down",
    "cpu_seconds_per_gb",
    "ping_1k_p50",
    "ping_1k_p99",
    "ping_1k_x16_rate",
    "connections_per_second",
    "connections_per_second_x8",
    "cpu_us_per_connection",
    "rss_1000_idle_mb",
]


def measured() -> dict[str, dict[str, list[Sample]]]:
    """Three rounds of everything; Envoy is twice as slow and as dear as hostmesh, direct is free."""
    slowness = {"direct": 1, "envoy": 4, "hostmesh": 2}
    samples: dict[str, dict[str, list[Sample]]] = {}
    for work in (*BULK, "ping_1k", "ping_1k_x16", *CONNECTIONS):
        samples[work] = {
            setup: [
                Sample(
                    seconds=slow * wobble,
                    cpu=(slow - 1) * wobble,
                    count=0 if work in BULK else 1000,
                    bytes=2_000_000_000 if work in BULK else 0,
                    p50=10.0 * slow * wobble,
                    p99=90.0 * slow * wobble,
                )
                for wobble in (1.0, 0.5, 3.0)
            ]
            for setup, slow in slowness.items()
        }
    return samples


@pytest.mark.parametrize(
    ("better", "envoy", "hostmesh", "ratio"),
    [("higher", 1.0, 1.5, 1.5), ("higher", 2.0, 1.0, 0.5), ("lower", 3.0, 2.0, 1.5), ("lower", 1.0, 4.0, 0.25)],
)
def test_a_ratio_above_one_means_that_hostmesh_is_ahead(
    better: figures.Better, envoy: float, hostmesh: float, ratio: float
) -> None:
    """Whether more or less is better."""
    assert Row("x", "s", better, None, envoy, hostmesh).ratio == ratio


def test_a_cost_of_nothing_is_infinitely_better() -> None:
    """A tick of the kernel's clock may be coarser than what was used."""
    assert Row("x", "s", "lower", None, 1.0, 0.0).ratio == float("inf")


def test_samples_become_rates_and_costs() -> None:
    """GB are 10^9 bytes, costs are of all proxies together."""
    bulk = Sample(seconds=2.0, cpu=3.0, bytes=4_000_000_000)
    assert (bulk.gigabytes_per_second, bulk.cpu_seconds_per_gb) == (2.0, 0.75)
    connections = Sample(seconds=2.0, cpu=0.5, count=1000)
    assert (connections.per_second, connections.cpu_us_each) == (500.0, 500.0)


def test_the_rows_are_those_of_the_results_in_their_order() -> None:
    """Readers of the file know the names."""
    found = figures.rows(measured(), {"envoy": 300.0, "hostmesh": 100.0})
    assert [row.name for row in found] == NAMES


def test_rows_hold_medians() -> None:
    """One slow round of three does not move them."""
    by_name = {row.name: row for row in figures.rows(measured(), {"envoy": 300.0, "hostmesh": 100.0})}
    assert by_name["bulk_1_stream_up"].direct == 2.0
    assert by_name["ping_1k_p99"].hostmesh == 180.0
    assert by_name["connections_per_second"].envoy == 250.0
    assert by_name["rss_1000_idle_mb"].ratio == 3.0


def test_costs_of_several_works_weigh_the_same() -> None:
    """A set-up that is fast at one work would else hide what the other costs."""
    samples = measured()
    samples["connections_per_second_x8"]["hostmesh"] = [Sample(1.0, 1.0, count=10_000)] * 3
    by_name = {row.name: row for row in figures.rows(samples, {"envoy": 1.0, "hostmesh": 1.0})}
    assert by_name["cpu_us_per_connection"].hostmesh == pytest.approx((1000 + 100) / 2)
    assert by_name["cpu_us_per_connection"].direct is None


def test_the_results_have_the_agreed_shape_and_are_json() -> None:
    """`direct` is null where there is no proxy to cost anything."""
    rows = figures.rows(measured(), {"envoy": 300.0, "hostmesh": 100.0})
    whole = json.loads(json.dumps(figures.results({"cores": 2}, rows), allow_nan=False))
    assert whole["machine"] == {"cores": 2}
    assert whole["rows"][0] == {
        "name": "bulk_1_stream_up",
        "unit": "GB/s",
        "better": "higher",
        "direct": 2.0,
        "envoy": 0.5,
        "hostmesh": 1.0,
        "ratio": 2.0,
    }
    assert whole["rows"][-1]["direct"] is None


def test_results_have_four_digits() -> None:
    """More would say that they mean something."""
    [row] = figures.results({}, [Row("x", "s", "higher", 1.23456, 98765.4, 0.000123456)])["rows"]
    assert (row["direct"], row["envoy"], row["hostmesh"]) == (1.235, 98770.0, 0.0001235)


def test_the_table_is_aligned() -> None:
    """Numbers end in one column, and a missing one is a dash."""
    lines = figures.table(
        [Row("short", "s", "lower", None, 2.0, 1.0), Row("a_long_name", "1/s", "higher", 3.0, 4.0, 56789.0)]
    )
    head, first, second = lines.splitlines()
    assert len(head) == len(first) == len(second)
    assert first.split() == ["short", "s", "-", "2", "1", "2.00"]
    assert second.split() == ["a_long_name", "1/s", "3", "4", "56,789", "14197.25"]


def test_costs_work_by_work() -> None:
    """Each in its own unit, for the eye and for whoever looks for the cause."""
    by_name = {row.name: row for row in figures.cpu_rows(measured())}
    assert (by_name["bulk_1_stream_up_cpu"].unit, by_name["bulk_1_stream_up_cpu"].envoy) == ("CPU s/GB", 1.5)
    assert (by_name["ping_1k_cpu"].unit, by_name["ping_1k_cpu"].hostmesh) == ("CPU us", 1000.0)


def test_spread_is_that_of_the_typical_work() -> None:
    """(max - min) / median: rounds of 1, 0.5 and 3 times the time are 1, 2 and 1/3 of the speed."""
    assert figures.spread(measured()) == pytest.approx(2 - 1 / 3)
