"""The agent's main process: puts the parts together and owns their tasks (`hostmesh agent`)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable, Sequence

from hostmesh.config.agent import AgentConfig
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.daemon.capture import CaptureKeeper
from hostmesh.daemon.cni_host import CniHost, DescriptorStore, kept_namespaces
from hostmesh.daemon.doors import Doors
from hostmesh.daemon.handover import Handover, leave, take_back
from hostmesh.daemon.http_doors import bind_doors, http_doors
from hostmesh.daemon.idling import Idling
from hostmesh.daemon.istiod_mode import istiod_access
from hostmesh.daemon.lease import LeaseClient
from hostmesh.daemon.listeners import open_listeners
from hostmesh.daemon.local_mode import NoMembership, local_mesh, local_policies
from hostmesh.daemon.logs import LogSink
from hostmesh.daemon.mesh import Mesh, messages
from hostmesh.daemon.mesh_source import Listeners, control_planes, mesh_source
from hostmesh.daemon.messages import credentials_update, local_workloads_update
from hostmesh.daemon.name_demand import NameDemand
from hostmesh.daemon.name_server import NameServer
from hostmesh.daemon.names import NameResolver
from hostmesh.daemon.node import Membership
from hostmesh.daemon.policies import PolicyKeeper
from hostmesh.daemon.reload import ReloadJudge, ReloadRefused
from hostmesh.daemon.shared_inbound import SharedInbound
from hostmesh.daemon.trust import Trust
from hostmesh.daemon.view import View
from hostmesh.daemon.workers import ProxyWorkers, WorkerHooks
from hostmesh.enrolment.cni_server import CniServer
from hostmesh.enrolment.numbers import NumbersUnreadable
from hostmesh.health.keeper import HealthKeeper
from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.files import FileCertificates
from hostmesh.identity.host_key import HostKeySigner
from hostmesh.identity.manager import SecretManager
from hostmesh.identity.node import NodeStore
from hostmesh.kernel import systemd
from hostmesh.kernel.memory import Memory
from hostmesh.kernel.process import check_user, may_change_user
from hostmesh.kernel.program import SIGNALS
from hostmesh.kernel.watchdog import feed_watchdog
from hostmesh.model.identity import Credentials, Identity, InvalidIdentity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.roots import Roots
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.wire.proto.handover_pb2 import KeptWorker
from hostmesh.xds.client import XdsClient, XdsStatus, XdsUpdate
from hostmesh.xds.local_source import LocalSource

_log = logging.getLogger("hostmesh.agent")

RELIEF_TIMEOUT = 30.0
"""Seconds after which a reload counts as finished although its workers do not serve: the former ones go on."""

IN_PLACE = "rules are in place"


class Agent:
    """Builds the parts; `run` owns every task until the agent is told to stop or replaces its program.

    Args:
        config: what it runs with.
        sink: where log records go.
        judge: what a reload means.
        before: what the program before this one left to it.
    """

    def __init__(self, config: AgentConfig, sink: LogSink, judge: ReloadJudge, before: Handover) -> None:
        settings = config.settings
        user = settings.proxy_user if may_change_user() else None
        if user is not None:
            check_user(user)
        self._config = config
        self._sink = sink
        self._judge = judge
        self._before = before
        self._stopping = asyncio.Event()
        self._hangup = asyncio.Event()
        self._store = NodeStore(settings.state_dir)
        endpoints = control_planes(config)
        root_cert = Roots(settings.control_plane.root_cert, settings.state_dir / "roots.json")
        self._trust = Trust(root_cert)
        istiod = istiod_access(config, endpoints, root_cert)
        control_plane = ControlPlane(endpoints, root_cert, self._store.files)
        self._ca = istiod or CaClient(control_plane, settings.certificates.ttl)
        local = local_mesh(config)
        self._membership: Membership | NoMembership = (
            NoMembership()
            if local is not None or istiod is not None
            else Membership(
                ControlPlane(endpoints, root_cert),
                self._store,
                config.node,
                settings.trust_domain,
                settings.join_token,
                sign=HostKeySigner(settings.host_key_socket).sign,
                fetch=self._ca.fetch,
            )
        )
        self._health = HealthKeeper(self._on_health)
        self._lease = LeaseClient(self._health.standings)
        self._mesh = Mesh(config.node)
        self._xds: XdsClient | LocalSource = (
            LocalSource(local, self._on_update, local_policies(config), before.gone)
            if local is not None
            else mesh_source(
                config,
                endpoints[0],
                control_plane,
                istiod,
                Listeners(self._on_update, self._on_status, self._lease.keep),
            )
        )
        self._known_before = before.synced and before.from_file == settings.local and not self._xds.anew
        self._left = before
        restored = self._xds.everything()
        self._mesh.apply(restored)  # what the disk had is known before this node has (re)joined
        files = FileCertificates(settings.certificates.directory)
        fetch = files.fetch if settings.certificates_from_files else self._ca.fetch
        self._secrets = SecretManager(
            fetch, on_credentials=self._on_credentials, on_failure=self._on_certificate_failure
        )
        for credentials in before.credentials:
            self._secrets.adopt(credentials)
        self._shared = SharedInbound(config, self._secrets, self._mesh.knows)
        self._capture = CaptureKeeper(config, endpoints, self._mesh.opted_out)
        self._policies = PolicyKeeper(self._capture, self._mesh.state)
        self._policies.apply(restored)
        if local is not None or restored.network_policies:
            self._policies.known()
        elif istiod is None and not self._mesh_known():
            self._policies.expect()
        self._name_demand = NameDemand(self._mesh.state, self._xds.want, lambda: self._xds.connected)
        self._name_server = NameServer(config, self._mesh, self._mesh_known, self._name_demand)
        self._quarters = Doors(self._capture.namespaces.supply)
        self._capture.attachments.adopt(DescriptorStore(), kept_namespaces(before))
        self._cni = CniServer(
            settings.runtime_dir, self._capture.attachments, CniHost(self._capture, self._follow_workloads)
        )
        self._doors = open_listeners(before.listeners, systemd.listen_fds(), ipv6=settings.ipv6, socks5=settings.socks5)
        self._http = {name: sock for name, sock in before.listeners.items() if name not in self._doors}
        self._workers = ProxyWorkers(
            config.workers,
            pb.Start(config_json=config.proxy().to_json(), plain_logs=sink.plain_lines),
            list(self._doors.values()),
            WorkerHooks(
                self._snapshot,
                sink.write_batch,
                self._want_credentials,
                self._quarters.channel,
                self._want_name,
                self._xds.want,
                self._xds.used,
            ),
            user=user,
            leave_within=settings.reload_deadline,
        )
        self._names: NameResolver = NameResolver(self._workers.broadcast)
        self._view = View(
            config,
            sink,
            self._mesh,
            self._xds,
            self._secrets,
            self._workers,
            self._capture,
            self._policies,
            self._name_server,
            self._membership,
            self._stopping,
            self._trust,
            known_before=self._known_before,
            local=local,
        )

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or /quitquitquit.

        Raises:
            InvalidYaml: a registration in workloads.d is wrong.
            OSError: a port is taken, or the rules cannot be put in place.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        bind_doors(self._config.settings, self._http)  # before any rule leads to this program
        self._cni.read_notes()
        await self._capture.refresh()
        await self._workers.adopt(self._before.workers, self._before.retired, self._before.worker_restarts)
        async with http_doors(self._view, self._config.settings, self._http), asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(self._workers.run(), name="proxy workers"),
                tasks.create_task(self._capture.run(self._follow_workloads), name="capture"),
                tasks.create_task(self._policies.run(), name="NetworkPolicies"),
                tasks.create_task(self._name_server.run(), name="DNS"),
                tasks.create_task(self._quarters.run(), name="network namespaces"),
                tasks.create_task(self._cni.run(), name="CNI"),
                tasks.create_task(self._secrets.run(), name="certificates"),
                tasks.create_task(self._names.run(), name="names"),
                tasks.create_task(self._health.run(), name="health"),
                tasks.create_task(feed_watchdog(), name="watchdog"),
                tasks.create_task(self._reload_on_hangup(tasks), name="reload"),
            ]
            self._joined = tasks.create_task(self._join_mesh(), name="mesh")
            self._follow_workloads()
            memory = Memory()
            memory.settle()
            Idling(loop, [memory.give_back]).start()
            await self._stopping.wait()
            await self._stop()
            for part in (*parts, self._joined):
                part.cancel()

    def _interrupt(self) -> None:
        """SIGINT stops like SIGTERM; a second one waits for nobody."""
        if self._stopping.is_set():
            self._workers.broadcast(pb.ToWorker(drain=pb.Drain(deadline_seconds=0)))
        self._stopping.set()

    async def _stop(self) -> None:
        deadline = self._config.settings.drain_deadline
        systemd.notify_stopping("draining")
        systemd.extend_timeout(deadline + 30)
        self._workers.broadcast(pb.ToWorker(drain=pb.Drain(deadline_seconds=deadline)))
        await self._workers.drained(deadline + 1)

    async def _join_mesh(self) -> None:
        """Enrol if need be, then follow the control plane and renew this node's own certificate."""
        await self._membership.join()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._membership.keep(self._on_node_renewed), name="node certificate")
            tasks.create_task(self._xds.run(), name="xds")

    async def _reload_on_hangup(self, tasks: asyncio.TaskGroup) -> None:
        """SIGHUP: read everything again; if anything in it is wrong, everything stays as it was."""
        if self._before.workers:
            try:
                async with asyncio.timeout(RELIEF_TIMEOUT):
                    await self._workers.relieved()
            except TimeoutError:
                _log.error("the new proxy workers do not serve yet; the former ones go on")
        while True:
            systemd.notify_ready(IN_PLACE)
            await self._hangup.wait()
            self._hangup.clear()
            systemd.notify_reloading()
            try:
                await self._reload(tasks)
            except (InvalidYaml, NumbersUnreadable, ReloadRefused, OSError) as error:
                _log.error("reload refused, everything stays as it was: %s", error)
                systemd.notify_status(f"reload refused: {error}")

    async def _reload(self, tasks: asyncio.TaskGroup) -> None:
        if await self._judge.needs_new_program():
            _log.info("settings or version changed: going on as %s", self._judge.program.installed())
            await self._replace_program(tasks)
        await self._capture.refresh(strict=True)
        self._follow_workloads()

    async def _replace_program(self, tasks: asyncio.TaskGroup) -> None:
        """Does not return if all goes well.

        Raises:
            ReloadRefused: it did not; the agent goes on.
        """
        async with self._capture.paused():
            self._joined.cancel()  # which writes to the disk what is known of the mesh
            await asyncio.wait([self._joined])
            try:
                workers, retired = await self._workers.hand_over()
                if self._stopping.is_set():
                    return
                self._become(workers, retired)
            except TimeoutError as error:
                raise ReloadRefused("a proxy worker does not read what the agent says; see its log") from error
            except OSError as error:
                raise ReloadRefused(f"{self._judge.program.argv[0]} cannot be started: {error.strerror}") from error
            finally:
                self._workers.resume()
                self._joined = tasks.create_task(self._join_mesh(), name="mesh")

    def _become(self, workers: Sequence[KeptWorker], retired: pb.Report) -> None:
        known = self._xds.everything()
        handover = Handover(
            {**{name: sock for name, (_, sock) in self._doors.items()}, **self._http},
            tuple(workers),
            retired,
            tuple(self._secrets.available()),
            self._workers.restarts,
            self._xds.synced or self._known_before,
            self._capture.attachments.kept,
            tuple(known.addresses),
            tuple(known.authorizations),
            self._config.settings.local,
        )
        self._capture.rest()
        environment = leave(handover, os.environ)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._judge.program.replace(environment)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            take_back(environment)

    def _follow_workloads(self) -> None:
        """Tell certificates and workers which workloads this host captures."""
        workloads = self._capture.workloads
        gone = self._secrets.keep_only({*(one.identity for one in workloads), *self._shared.wanted(workloads)})
        self._shared.review(workloads)
        if lost := self._shared.to_lose(gone):
            self._workers.broadcast(credentials_update(forgotten=lost))
        self._workers.broadcast(local_workloads_update(workloads, self._capture.host_ports))
        self._quarters.follow(self._capture.namespaces.open)
        askers = [asker.workload for asker in self._capture.naming.askers]
        self._name_server.follow(askers, self._capture.namespaces.open)
        self._health.follow(self._capture.checks)

    def _snapshot(self) -> Iterable[pb.ToWorker]:
        """What a worker must know before it may serve; while the mesh is unknown it is not told to serve."""
        yield pb.ToWorker(log_level=pb.SetLogLevel(level=self._sink.level))
        yield from self._trust.messages()
        yield from messages(self._xds.everything())
        yield local_workloads_update(self._capture.workloads, self._capture.host_ports)
        yield credentials_update(self._secrets.available())
        if self._mesh_known():
            yield pb.ToWorker(serve=pb.Serve())

    def _mesh_known(self) -> bool:
        status = self._xds.status()
        return status.synced or status.restored or self._known_before

    def _on_update(self, update: XdsUpdate) -> None:
        if update.trust:
            self._on_trust(update.trust)
        self._mesh.apply(update)
        self._name_demand.heard((*update.learned, *update.refused))
        self._policies.apply(update)
        self._capture.reconsider()
        self._shared.review(self._capture.workloads)
        for message in messages(update):
            self._workers.broadcast(message)
        self._secrets.retry_failed()

    def _on_trust(self, bundle: bytes) -> None:
        """Workers refuse the revoked and close their tunnels; our own certificates may be among them."""
        self._trust.take(bundle)
        for message in self._trust.messages():
            self._workers.broadcast(message)
        self._trust.review(self._secrets)
        node = self._membership.status()
        if node is not None and node.credentials is not None and self._trust.outdated(node.credentials):
            self._membership.doubt()

    def _on_status(self, status: XdsStatus) -> None:
        if status.not_admitted:
            self._membership.doubt()
        if status.network_policies:
            self._policies.known()
        if status.synced:
            if gone := self._left.gone(self._xds.everything()):
                self._on_update(gone)
            self._left = Handover()
            self._workers.broadcast(pb.ToWorker(serve=pb.Serve()))

    def _on_health(self) -> None:
        self._lease.tell()

    def _want_name(self, hostname: str) -> None:
        self._names.want(hostname)

    def _on_node_renewed(self) -> None:
        """What had to wait for this node's own certificate need not wait longer."""
        self._xds.retry()
        self._secrets.retry_failed()

    def _on_credentials(self, credentials: Credentials) -> None:
        if self._trust.learn(credentials):
            for message in self._trust.messages():
                self._workers.broadcast(message)
        self._workers.broadcast(credentials_update([credentials]))

    def _on_certificate_failure(self, identity: Identity, reason: str) -> None:
        self._workers.broadcast(credentials_update(failed={identity: reason}))

    def _want_credentials(self, text: str) -> None:
        """A worker asks; it may only ask for what is captured here."""
        try:
            identity = Identity.parse(text)
        except InvalidIdentity:
            return
        workloads = self._capture.workloads
        if identity in {*(one.identity for one in workloads), *self._shared.wanted(workloads)}:
            self._secrets.want(identity, waiting=True)
