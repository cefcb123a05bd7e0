"""Main's own metrics: build, certificates, control plane, workers, process (names after Istio's where it has them)."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hostmesh import __version__
from hostmesh.daemon.local_mode import NoMembership
from hostmesh.daemon.name_server import NameServer
from hostmesh.daemon.node import Membership
from hostmesh.daemon.policies import PolicyKeeper
from hostmesh.daemon.workers import ProxyWorkers
from hostmesh.identity.manager import SecretManager
from hostmesh.xds.client import XdsClient, XdsStatus
from hostmesh.xds.counts import XdsCounts
from hostmesh.xds.local_source import LocalSource


def own_metrics(
    secrets: SecretManager,
    xds: XdsClient | LocalSource,
    workers: ProxyWorkers,
    membership: Membership | NoMembership,
    policies: PolicyKeeper,
    name_server: NameServer,
) -> CollectorRegistry:
    """A registry that reads main's parts when it is scraped."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Main(secrets, xds, workers, membership, policies))
    registry.register(name_server.metrics)
    ProcessCollector(registry=registry)
    return registry


def xds_metrics(status: XdsStatus, counts: XdsCounts) -> Iterable[Metric]:
    """Those of the stream to the control plane, most of them under ztunnel's names."""
    yield GaugeMetricFamily("hostmesh_xds_connected", "Whether the control plane is connected.", status.connected)
    yield CounterMetricFamily(
        "hostmesh_xds_rejected_resources",
        "Resources of the control plane that were refused.",
        status.rejected_resources,
    )
    ends = CounterMetricFamily(
        "istio_xds_connection_terminations", "Ends of the stream to the control plane (unstable).", labels=["reason"]
    )
    messages = CounterMetricFamily("istio_xds_message", "Responses from the control plane (unstable).", labels=["url"])
    size = CounterMetricFamily(
        "istio_xds_message_bytes", "Bytes of resources from the control plane (unstable).", labels=["url"]
    )
    on_demand = CounterMetricFamily(
        "istio_on_demand_addresses",
        "Addresses that the control plane was asked for, has answered, or that nothing is known of (unstable).",
        labels=["result"],
    )
    counted = (
        (ends, counts.terminations),
        (messages, counts.messages),
        (size, counts.message_bytes),
        (on_demand, counts.on_demand),
    )
    for family, values in counted:
        for value, count in values.items():
            family.add_metric([value], count)
        yield family


class _Main(Collector):
    def __init__(
        self,
        secrets: SecretManager,
        xds: XdsClient | LocalSource,
        workers: ProxyWorkers,
        membership: Membership | NoMembership,
        policies: PolicyKeeper,
    ) -> None:
        self._secrets = secrets
        self._xds = xds
        self._workers = workers
        self._membership = membership
        self._policies = policies

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("istio_build", "Istio component build info.", labels=["component", "tag"])
        build.add_metric(["hostmesh-agent", __version__], 1)
        yield build
        yield from self._certificates()
        yield self._dropped()
        yield self._probes()
        if isinstance(self._xds, XdsClient):
            yield from xds_metrics(self._xds.status(), self._xds.counts)
        yield CounterMetricFamily(
            "hostmesh_proxy_worker_restarts", "Proxy workers that ended and were replaced.", self._workers.restarts
        )

    def _dropped(self) -> Metric:
        dropped = CounterMetricFamily(
            "hostmesh_network_policy_dropped_packets",
            "New connections' packets that the kernel dropped because no NetworkPolicy admits them.",
            labels=["workload_namespace", "workload", "direction"],
        )
        for one in self._policies.counted:
            namespace, _, name = one.workload.partition("/")
            dropped.add_metric([namespace, name, one.direction.value], one.dropped)
        return dropped

    def _probes(self) -> Metric:
        probes = CounterMetricFamily(
            "hostmesh_probe_connections",
            "Health probes that were let through in plaintext.",
            labels=["workload_namespace", "workload"],
        )
        for key, count in self._policies.probes.items():
            namespace, _, name = key.partition("/")
            probes.add_metric([namespace, name], count)
        return probes

    def _certificates(self) -> Iterable[Metric]:
        """Of workloads and of the node itself, whose identity is in the namespace hostmesh-nodes."""
        expiry = GaugeMetricFamily(
            "hostmesh_certificate_expiry_seconds",
            "Seconds until the certificate of an identity expires; 0 when there is none.",
            labels=["identity"],
        )
        failing = GaugeMetricFamily(
            "hostmesh_certificate_renewal_failing",
            "Whether the last attempt to get or renew the certificate of an identity failed.",
            labels=["identity"],
        )
        node = self._membership.status()
        now = time.time()
        for status in [*self._secrets.statistics(), *([node] if node is not None else ())]:
            left = max(0.0, status.credentials.not_after - now) if status.credentials is not None else 0.0
            expiry.add_metric([str(status.identity)], left)
            failing.add_metric([str(status.identity)], float(status.health.is_trouble))
        yield expiry
        yield failing
