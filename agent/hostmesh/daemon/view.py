"""The agent as its HTTP doors see it: readiness, config dump, status, metrics."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.core import Metric

from hostmesh import __version__
from hostmesh.admin.dump import (
    EndpointView,
    certificate_json,
    policy_json,
    service_json,
    staged_json,
    static_json,
    workload_json,
)
from hostmesh.admin.ztunnel_config import config_json, version_json
from hostmesh.config.agent import AgentConfig
from hostmesh.daemon.capture import CaptureKeeper
from hostmesh.daemon.local_mode import NoMembership
from hostmesh.daemon.logs import LogSink
from hostmesh.daemon.mesh import Mesh
from hostmesh.daemon.metrics import own_metrics
from hostmesh.daemon.name_server import NameServer
from hostmesh.daemon.node import Membership
from hostmesh.daemon.policies import PolicyKeeper
from hostmesh.daemon.processes import whole_agent
from hostmesh.daemon.trust import Trust
from hostmesh.daemon.workers import ProxyWorkers
from hostmesh.firewall.describe import inside_lines
from hostmesh.firewall.tunnel import PREFIX
from hostmesh.identity.health import Health
from hostmesh.identity.manager import SecretManager, SecretStatus
from hostmesh.model.service import Service
from hostmesh.telemetry.exposition import render
from hostmesh.telemetry.metrics import PROCESS, Series, merge
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.client import XdsClient
from hostmesh.xds.local_file import LocalMesh
from hostmesh.xds.local_source import LocalSource

INSTALLATION = str(Path(sys.prefix).resolve())
"""Where this program is installed: an upgrade is over when the agent says the new place."""


class View:
    """Implements `AgentView` over the agent's parts; owns none of them."""

    def __init__(
        self,
        config: AgentConfig,
        sink: LogSink,
        mesh: Mesh,
        xds: XdsClient | LocalSource,
        secrets: SecretManager,
        workers: ProxyWorkers,
        capture: CaptureKeeper,
        policies: PolicyKeeper,
        name_server: NameServer,
        membership: Membership | NoMembership,
        stopping: asyncio.Event,
        trust: Trust,
        *,
        known_before: bool = False,
        local: LocalMesh | None = None,
    ) -> None:
        self._config = config
        self._sink = sink
        self._mesh = mesh
        self._xds = xds
        self._secrets = secrets
        self._workers = workers
        self._capture = capture
        self._policies = policies
        self._name_server = name_server
        self._membership = membership
        self._stopping = stopping
        self._trust = trust
        self._known_before = known_before
        self._local = local or LocalMesh()
        self._own_metrics = own_metrics(secrets, xds, workers, membership, policies, name_server)

    def pending(self) -> list[str]:
        """Names of what is not ready yet, sorted."""
        waiting = {
            "enrolment": bool(self._membership.waiting_for),
            "state manager": not (self._xds.synced or self._known_before),
            "dns proxy": self._name_server.pending,
            "network policies": self._policies.pending,
            "rules": not self._capture.in_place,
            "proxy": not self._workers.ready,
            "draining": self._stopping.is_set(),
            "certificates": any(status.credentials is None for status in self._secrets.statistics()),
        }
        return sorted(name for name, pending in waiting.items() if pending)

    def config_dump(self) -> dict[str, Any]:
        """What ztunnel's `/config_dump` holds, without connections."""
        state = self._mesh.state
        return {
            "workloads": [workload_json(one) for one in sorted(state.workloads(), key=lambda one: one.uid)],
            "services": [
                service_json(one, self._endpoints(one))
                for one in sorted(state.services(), key=lambda one: one.hostname)
            ],
            "policies": [policy_json(one) for one in sorted(state.policies(), key=lambda one: one.key)],
            "stagedServices": {
                str(key): {workload.uid: staged_json(workload, key) for workload in workloads}
                for key, workloads in state.staged().items()
            },
            "staticConfig": static_json(self._local),
            "certificates": [
                certificate_json(str(status.identity), status.state, status.credentials)
                for status in sorted(self._secrets.statistics(), key=lambda status: str(status.identity))
            ],
            "revokedIdentities": sorted(map(str, self._trust.revoked)),
            "config": config_json(self._config),
            "settings": {
                name: {"value": value, "source": source} for name, (value, source) in self._config.effective().items()
            },
            "version": version_json(__version__),
        }

    async def connections(self) -> dict[str, Any]:
        """Open connections of each workload."""
        reports = await self._workers.reports()
        workloads: dict[str, Any] = {}
        for captured in self._capture.workloads:
            registered = self._mesh.registered(captured.identity, captured.name)
            workloads[registered.uid if registered is not None else captured.key] = {
                "state": "Up" if registered is not None else "Pending",
                "info": {
                    "name": captured.name,
                    "namespace": captured.namespace,
                    "serviceAccount": captured.identity.service_account,
                },
                "connections": {"inbound": [], "outbound": []},
            }
        for report in reports:
            for connection in report.connections:
                if connection.workload in workloads:
                    workloads[connection.workload]["connections"][connection.direction].append(_connection(connection))
        return workloads

    async def metrics(self, openmetrics: bool) -> str:
        """Traffic of every worker merged, and what main knows."""
        reports = await self._workers.reports()
        own = list(self._own_metrics.collect())
        return await asyncio.to_thread(_render, reports, own, openmetrics)

    async def status(self) -> dict[str, Any]:
        """What `hostmesh status` prints."""
        state = self._mesh.state
        secrets = {status.identity: status for status in self._secrets.statistics()}
        pending = self.pending()
        workloads = [
            {
                "name": workload.name,
                "namespace": workload.namespace,
                "identity": str(workload.identity),
                "unit": workload.unit,
                "mark": workload.mark,
                "capture": self._capture.describe(workload),
                "certificate": _certificate(secrets.get(workload.identity)),
            }
            for workload in (*self._capture.workloads, *self._capture.opted_out)
        ]
        return {
            "node": self._config.node,
            "version": __version__,
            "installation": INSTALLATION,
            "captureProblems": self._capture.problems,
            "ready": not pending,
            "pending": pending,
            "meshFile": self._config.settings.mesh_file,
            "controlPlane": {
                "address": ", ".join(self._config.settings.control_plane.everywhere),
                "connected": self._xds.connected,
                "error": self._membership.waiting_for or self._xds.status().error,
            },
            "nodeCertificate": _certificate(self._membership.status()),
            "mesh": {
                "workloads": len(state.workloads()),
                "services": len(state.services()),
                "policies": len(state.policies()),
            },
            "dns": self._name_server.summary(),
            "networkPolicy": self._policies.summary(),
            "workers": [
                {"pid": link.process.pid, "ready": link.ready, "draining": link.draining}
                for link in self._workers.links
            ],
            "workerRestarts": self._workers.restarts,
            "tlsEngine": self._config.settings.tls.engine,
            "workloads": workloads,
            "time": time.time(),
        }

    async def network_policies(self) -> dict[str, Any]:
        """Both halves of NetworkPolicies for the workloads of this host."""
        described = await self._policies.describe()
        state = self._mesh.state
        inside: dict[str, list[str]] = {}
        for captured in self._capture.workloads:
            registered = self._mesh.registered(captured.identity, captured.name)
            derived = [] if registered is None else state.policies_for(registered)
            inside[captured.key] = [
                line for policy in derived if policy.name.startswith(f"{PREFIX}_") for line in inside_lines(policy)
            ]
        return {**described, "inside": inside}

    def log_level(self) -> str:
        """The filter in force."""
        return self._sink.level

    def change_log_level(self, level: str, *, reset: bool) -> None:
        """Add to the filter of main and workers, after going back to the configured one if `reset`.

        Raises:
            InvalidLevels: no such level; nothing has changed.
        """
        self._sink.change_level(level, reset=reset)
        self._workers.broadcast(pb.ToWorker(log_level=pb.SetLogLevel(level=self._sink.level)))

    def shut_down(self) -> None:
        """Begin a graceful stop."""
        self._stopping.set()

    def _endpoints(self, service: Service) -> list[EndpointView]:
        key = service.namespaced_hostname
        return [
            EndpointView(workload.uid, workload.services.get(key, {}), workload.status.value)
            for workload in self._mesh.state.endpoints(service)
        ]


def _certificate(status: SecretStatus | None) -> dict[str, Any]:
    held = status.credentials if status is not None else None
    return {
        "state": status.state if status is not None else "Initializing",
        "expires": held.not_after if held is not None else None,
        "serial": str(held.serial) if held is not None else None,
        "health": (status.health if status is not None else Health.PENDING).value,
        "lastError": status.last_error if status is not None else "",
    }


def _connection(connection: pb.OpenConnection) -> Mapping[str, Any]:
    return {
        "src": connection.source,
        "originalDst": connection.original_destination or None,
        "actualDst": connection.actual_destination,
        "protocol": connection.protocol,
    }


def _render(reports: list[pb.Report], own: list[Metric], openmetrics: bool) -> str:
    """In a thread: a hundred thousand series take seconds."""
    counters = merge(map(_series, report.counters) for report in reports)
    gauges = merge(map(_series, report.gauges) for report in reports)
    used = [_used(counters), *(_used(report.gauges) for report in reports)]
    traffic = (one for one in (*counters, *gauges) if one.metric not in PROCESS)
    return render(traffic, whole_agent(own, used), openmetrics=openmetrics)


def _used(told: Iterable[Series | pb.Series]) -> Mapping[str, int]:
    return {one.metric: one.value for one in told if one.metric in PROCESS}


def _series(series: pb.Series) -> Series:
    return Series(series.metric, tuple(series.labels), series.value)
