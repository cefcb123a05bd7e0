"""Counters: one per label set, ended per outcome, bounded, merged over processes."""

from __future__ import annotations

from hostmesh.telemetry.labels import TRAFFIC_LABEL_NAMES, traffic_labels
from hostmesh.telemetry.metrics import (
    CLOSED,
    FAILED,
    OPENED,
    RECEIVED,
    SENT,
    Metrics,
    Series,
    label_map,
    merge,
)

LABELS = traffic_labels("source", (None, None), (None, None), None, "mutual_tls")


def values(metrics: Metrics, name: str) -> list[tuple[dict[str, str], int]]:
    return [(dict(label_map(one)), one.value) for one in metrics.snapshot() if one.metric == name]


def test_a_label_set_has_one_traffic() -> None:
    """A route's counters are the same objects for all of its connections, so that the hot path only adds."""
    metrics = Metrics()
    assert metrics.traffic(LABELS) is metrics.traffic(LABELS)


def test_success_counts_opened_closed_and_bytes_but_not_failed() -> None:
    """A clean connection ends with flags `-` and leaves no failed series."""
    metrics = Metrics()
    traffic = metrics.traffic(LABELS)
    traffic.opened.value += 1
    traffic.received.value += 11
    traffic.sent.value += 22
    traffic.ended("-")
    assert [value for _, value in values(metrics, OPENED)] == [1]
    assert [(labels["response_flags"], value) for labels, value in values(metrics, CLOSED)] == [("-", 1)]
    assert [value for _, value in values(metrics, RECEIVED)] == [11]
    assert [value for _, value in values(metrics, SENT)] == [22]
    assert values(metrics, FAILED) == []


def test_a_denied_connection_names_its_policies() -> None:
    """Only the outcome of a denial carries the deciding policies; opened keeps flags `-` and no policy."""
    metrics = Metrics()
    traffic = metrics.traffic(LABELS)
    traffic.opened.value += 1
    traffic.ended("DENY", ("shop/a", "shop/b"))
    ((closed, count),) = values(metrics, CLOSED)
    assert (closed["response_flags"], closed["authorization_policy"], count) == ("DENY", "shop/a,shop/b", 1)
    assert values(metrics, FAILED) == [(closed, 1)]
    ((opened, _),) = values(metrics, OPENED)
    assert opened["response_flags"] == "-"
    assert "authorization_policy" not in opened


def test_outcomes_are_separate_series() -> None:
    """Success and failure of one route do not mix."""
    metrics = Metrics()
    traffic = metrics.traffic(LABELS)
    for flags in ("-", "CONNECT", "CONNECT"):
        traffic.ended(flags)
    assert {labels["response_flags"]: value for labels, value in values(metrics, CLOSED)} == {"-": 1, "CONNECT": 2}


def test_series_are_bounded() -> None:
    """A peer that varies its baggage fills the table once; later label sets are counted as unknown."""
    metrics = Metrics(max_series=2)
    index = TRAFFIC_LABEL_NAMES.index("source_workload")
    for number in range(10):
        labels = (*LABELS[:index], f"w{number}", *LABELS[index + 1 :])
        metrics.traffic(labels).opened.value += 1
    opened = {labels["source_workload"]: value for labels, value in values(metrics, OPENED)}
    assert opened == {"w0": 1, "w1": 1, "unknown": 8}


def test_merge_adds_equal_series_of_several_processes() -> None:
    """A scrape sees the sum over the workers."""
    first = [Series(OPENED, ("a",), 1), Series(OPENED, ("b",), 2)]
    second = [Series(OPENED, ("b",), 3), Series(CLOSED, ("b",), 4)]
    assert merge([first, second]) == [
        Series(OPENED, ("a",), 1),
        Series(OPENED, ("b",), 5),
        Series(CLOSED, ("b",), 4),
    ]


def test_gauges_tell_open_sockets_by_reporter() -> None:
    """Accepted sockets being served, per side."""
    metrics = Metrics()
    metrics.sockets_open["destination"] += 2
    assert [(one.labels, one.value) for one in metrics.gauges()] == [(("source",), 0), (("destination",), 2)]
