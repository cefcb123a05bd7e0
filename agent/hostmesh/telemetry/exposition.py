"""Text exposition of metrics by prometheus-client (OpenMetrics 1.0, and Prometheus' older text format)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest as prometheus_text
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.registry import Collector

from hostmesh.telemetry.labels import TRAFFIC_LABEL_NAMES
from hostmesh.telemetry.metrics import CLOSED, CRL_REJECTIONS, FAILED, OPENED, RECEIVED, SENT, SOCKETS_OPEN, Series

OPENMETRICS_TYPE = "application/openmetrics-text;charset=utf-8;version=1.0.0"
TEXT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is: its help ends with a full stop, its label names give the order of values."""

    kind: Literal["counter", "gauge"]
    help: str
    label_names: tuple[str, ...] = ()


FAMILIES: Mapping[str, Family] = {
    OPENED: Family("counter", "The total number of TCP connections opened.", TRAFFIC_LABEL_NAMES),
    CLOSED: Family("counter", "The total number of TCP connections closed.", TRAFFIC_LABEL_NAMES),
    RECEIVED: Family(
        "counter", "The size of total bytes received during request in case of a TCP connection.", TRAFFIC_LABEL_NAMES
    ),
    SENT: Family(
        "counter", "The size of total bytes sent during response in case of a TCP connection.", TRAFFIC_LABEL_NAMES
    ),
    FAILED: Family("counter", "The total number of TCP connections that failed (unstable).", TRAFFIC_LABEL_NAMES),
    CRL_REJECTIONS: Family(
        "counter", "Connections refused or closed because a certificate is revoked (unstable).", ("reporter",)
    ),
    SOCKETS_OPEN: Family("gauge", "The current number of open TCP sockets (unstable).", ("reporter",)),
}


def render(
    series: Iterable[Series],
    own: Iterable[Metric] = (),
    *,
    openmetrics: bool = True,
    families: Mapping[str, Family] = FAMILIES,
) -> str:
    """The workers' series in the order of `families`, then what the process itself has registered.

    Args:
        series: merged over the workers; families without samples are left out.
        own: what the calling process has collected of itself.
        openmetrics: OpenMetrics if the scraper takes it, else Prometheus' text format.
        families: what the series may be of.

    Raises:
        KeyError: a series of a family that is not listed.
    """
    metrics = _metrics(series, families)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot([*metrics, *(metric for metric in own if metric.samples)]))
    text: bytes = (openmetrics_text if openmetrics else prometheus_text)(registry)
    return text.decode()


class _Snapshot(Collector):
    """Metrics that are collected already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._collected = metrics

    def collect(self) -> Iterable[Metric]:
        return self._collected


def _metrics(series: Iterable[Series], families: Mapping[str, Family]) -> list[Metric]:
    metrics = {name: Metric(name.removesuffix("_total"), family.help, family.kind) for name, family in families.items()}
    for one in series:
        pairs = zip(families[one.metric].label_names, one.labels, strict=True)
        metrics[one.metric].add_sample(one.metric, {name: value for name, value in pairs if value}, one.value)
    return [metric for metric in metrics.values() if metric.samples]
