"""Counters of the DNS server, by Istio's names; main's own, as it is main that answers."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hostmesh.dns.answer import Client

_LABELS = ("request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision")
_SECONDS = (0.0005, 0.001, 0.01, 0.1, 1, 5)
_TYPES = frozenset({"a", "aaaa", "any", "caa", "cname", "https", "mx", "ns", "ptr", "soa", "srv", "svcb", "txt"})


class DnsMetrics(Collector):
    """Labels are bounded: a type that nobody needs is counted as `other`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        one = self.registry
        self._asked = Counter("istio_dns_requests", "Questions about names (unstable).", _LABELS, registry=one)
        self._forwarded = Counter(
            "istio_dns_upstream_requests", "Questions passed on to other resolvers (unstable).", _LABELS, registry=one
        )
        self._failed = Counter(
            "istio_dns_upstream_failures",
            "Questions that other resolvers answered with an error, with nothing or not at all (unstable).",
            _LABELS,
            registry=one,
        )
        self._seconds = Histogram(
            "istio_dns_upstream_request_duration_seconds",
            "How long other resolvers took (unstable).",
            _LABELS,
            buckets=_SECONDS,
            registry=one,
        )

    def collect(self) -> Iterable[Metric]:
        """Everything counted (a Prometheus collector)."""
        return self.registry.collect()

    def asked(self, kind: str, protocol: str, client: Client) -> None:
        """A question came."""
        self._asked.labels(*_labels(kind, protocol, client)).inc()

    def forwarded(self, kind: str, protocol: str, client: Client, seconds: float, *, failed: bool) -> None:
        """One was passed on, and what came of it."""
        labels = _labels(kind, protocol, client)
        self._forwarded.labels(*labels).inc()
        self._seconds.labels(*labels).observe(seconds)
        if failed:
            self._failed.labels(*labels).inc()


def _labels(kind: str, protocol: str, client: Client) -> tuple[str, str, str, str]:
    name, revision = client.canonical_name or "unknown", client.canonical_revision or "unknown"
    return kind if kind in _TYPES else "other", protocol, name, revision
