"""Counters of the byte path: plain ints behind interned label tuples (Istio standard TCP metrics)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hostmesh.telemetry.labels import (
    NO_FLAGS,
    RESPONSE_FLAGS,
    TRAFFIC_LABEL_NAMES,
    TrafficLabels,
    overflow_labels,
)

MAX_TRAFFIC_SERIES = 20_000
"""Label sets that one process keeps. Part of a label set can come from a peer's baggage, so it must be bounded;
what comes later is counted under labels that say `unknown`."""

OPENED = "istio_tcp_connections_opened_total"
CLOSED = "istio_tcp_connections_closed_total"
FAILED = "istio_tcp_connections_failed_total"
SENT = "istio_tcp_sent_bytes_total"
RECEIVED = "istio_tcp_received_bytes_total"
SOCKETS_OPEN = "istio_tcp_sockets_open"
CRL_REJECTIONS = "istio_crl_policy_rejections_total"

CPU = "process_cpu_seconds_total"
VIRTUAL_MEMORY = "process_virtual_memory_bytes"
RESIDENT_MEMORY = "process_resident_memory_bytes"
OPEN_FDS = "process_open_fds"
MAX_FDS = "process_max_fds"

PROCESS = frozenset({CPU, VIRTUAL_MEMORY, RESIDENT_MEMORY, OPEN_FDS, MAX_FDS})
"""What a process uses, under the names of Prometheus' clients. A series of the first counts microseconds."""

GAUGES = frozenset({SOCKETS_OPEN}) | PROCESS - {CPU}
"""What goes up and down; everything else is a counter."""


@dataclass(frozen=True, slots=True)
class Series:
    """One sample: label values stand in the order of the family's label names, `""` leaves an optional one out."""

    metric: str
    labels: tuple[str, ...]
    value: int


class Counter:
    """A number that only grows; the hot path does `counter.value += n`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Traffic:
    """The counters of one label set.

    `received` counts bytes read from the requester, `sent` bytes written to it, on both reporters alike.
    """

    __slots__ = ("_ended", "labels", "opened", "received", "sent")

    def __init__(self, labels: TrafficLabels) -> None:
        self.labels = labels
        self.opened = Counter()
        self.received = Counter()
        self.sent = Counter()
        self._ended: dict[tuple[str, tuple[str, ...], str], Counter] = {}

    def ended(self, flags: str, policies: tuple[str, ...] = (), reason: str = "") -> None:
        """Count the end of a connection.

        Args:
            flags: the outcome's response flag, `-` for success.
            policies: `namespace/name` of the policies that denied it; empty unless the flag is DENY.
            reason: the code of a failure.
        """
        key = (flags, policies, reason)
        counter = self._ended.get(key)
        if counter is None:
            counter = self._ended[key] = Counter()
        counter.value += 1

    def series(self) -> Iterable[Series]:
        """Everything counted under these labels."""
        yield Series(OPENED, self.labels, self.opened.value)
        for (flags, policies, reason), counter in self._ended.items():
            labels = _outcome_labels(self.labels, flags, policies, reason)
            yield Series(CLOSED, labels, counter.value)
            if flags != NO_FLAGS:
                yield Series(FAILED, labels, counter.value)
        yield Series(RECEIVED, self.labels, self.received.value)
        yield Series(SENT, self.labels, self.sent.value)


class Metrics:
    """All numbers of one process. Not thread-safe: one loop owns it."""

    __slots__ = ("_max_series", "_traffic", "crl_rejections", "sockets_open")

    def __init__(self, max_series: int = MAX_TRAFFIC_SERIES) -> None:
        self._traffic: dict[TrafficLabels, Traffic] = {}
        self._max_series = max_series
        self.sockets_open: dict[str, int] = {"source": 0, "destination": 0}
        self.crl_rejections: dict[str, int] = {"source": 0, "destination": 0}

    def traffic(self, labels: TrafficLabels) -> Traffic:
        """The one `Traffic` of a label set; callers keep it for the life of a route."""
        traffic = self._traffic.get(labels)
        if traffic is None:
            if len(self._traffic) >= self._max_series:
                labels = overflow_labels(labels)
            traffic = self._traffic.setdefault(labels, Traffic(labels))
        return traffic

    def each(self) -> Iterator[Series]:
        """All counters there are now, raw; main adds them up over its workers. What is counted meanwhile may be in."""
        for traffic in tuple(self._traffic.values()):
            yield from tuple(traffic.series())
        for reporter, rejected in self.crl_rejections.items():
            if rejected:
                yield Series(CRL_REJECTIONS, (reporter,), rejected)

    def snapshot(self) -> list[Series]:
        """All counters at once."""
        return list(self.each())

    def gauges(self) -> list[Series]:
        """What is open now."""
        return [Series(SOCKETS_OPEN, (reporter,), value) for reporter, value in self.sockets_open.items()]


def merge(snapshots: Iterable[Iterable[Series]]) -> list[Series]:
    """Add up equal series of several processes; the order of first appearance is kept."""
    totals: dict[tuple[str, tuple[str, ...]], int] = {}
    for snapshot in snapshots:
        for series in snapshot:
            key = (series.metric, series.labels)
            totals[key] = totals.get(key, 0) + series.value
    return [Series(metric, labels, value) for (metric, labels), value in totals.items()]


def label_map(series: Series) -> Mapping[str, str]:
    """A traffic series' labels by name, optional ones that are absent left out."""
    pairs = zip(TRAFFIC_LABEL_NAMES, series.labels, strict=True)
    return {name: value for name, value in pairs if value}


def _outcome_labels(labels: TrafficLabels, flags: str, policies: tuple[str, ...], reason: str) -> TrafficLabels:
    return (*labels[:RESPONSE_FLAGS], flags, *labels[RESPONSE_FLAGS + 1 : -2], ",".join(policies), reason)
