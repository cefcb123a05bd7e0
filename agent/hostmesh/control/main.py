"""The control plane program: puts documents, authority, xDS and the operator's socket together, and takes them down."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from hostmesh import __version__
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.ads import AdsService
from hostmesh.control.api import Api
from hostmesh.control.audit import AuditLog
from hostmesh.control.bearer import BearerTokens
from hostmesh.control.ca import CaBroken, CertificateAuthority
from hostmesh.control.ca_api import CaApi
from hostmesh.control.certificate_service import CertificateService
from hostmesh.control.collector import settle
from hostmesh.control.config import ControlPlaneConfig
from hostmesh.control.directory_watch import follow
from hostmesh.control.enrolment_api import EnrolmentApi
from hostmesh.control.enrolment_service import EnrolmentService
from hostmesh.control.etcd.tree import PREFIX as DOCUMENTS
from hostmesh.control.grpc_server import CannotListen, GrpcServer
from hostmesh.control.live import LiveDocuments
from hostmesh.control.local_socket import SocketUnusable, listen
from hostmesh.control.nodes import NodeRegistry
from hostmesh.control.offload import Offload
from hostmesh.control.open_store import open_store
from hostmesh.control.peer import by_certificate, by_certificate_or_token
from hostmesh.control.planes import Planes
from hostmesh.control.records import RecordsBroken, StoreUnavailable
from hostmesh.control.registry import Registry
from hostmesh.control.registry_service import RegistryService
from hostmesh.control.reload import taken_over
from hostmesh.control.revocations import PREFIX as REVOKED
from hostmesh.control.store import DocumentStore
from hostmesh.control.tokens import TokenStore
from hostmesh.control.trust import TrustKeeper, revoked_nodes
from hostmesh.kernel.systemd import notify_ready, notify_reloading, notify_stopping
from hostmesh.kernel.watchdog import feed_watchdog
from hostmesh.telemetry.logs import parse_levels, replace_levels

_log = logging.getLogger(__name__)

_API_SHUTDOWN_TIMEOUT = 2.0


class CannotStart(Exception):
    """The control plane cannot run; the text says what, where and what to do."""


class ControlPlane:
    """One running control plane.

    Args:
        config: what the file says.
        read: reads it again; may raise InvalidYaml.

    Raises:
        CannotStart: the state on disk is not usable.
    """

    def __init__(self, config: ControlPlaneConfig, read: Callable[[], ControlPlaneConfig]) -> None:
        self._config = config
        self._began = time.time()
        self._stop = asyncio.Event()
        self._hangup = asyncio.Event()
        self._read = read
        try:
            config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store = open_store(config)
        except (CaBroken, RecordsBroken, StoreUnavailable) as error:
            raise CannotStart(str(error)) from error
        except OSError as error:
            why = f"{error.strerror}; make the directory, owned by the user that runs the control plane"
            raise CannotStart(f"{error.filename}: {why}") from error
        records = self._store.records
        try:
            self._ca = CertificateAuthority(
                config.state_dir / "ca",
                config.trust_domain,
                records,
                shelf=self._store.shelf,
                max_ttl=config.certificates.max_ttl,
                node_ttl=config.certificates.node_ttl,
            )
            self._bearers = BearerTokens(self._store.shelf, config.trust_domain)
        except (CaBroken, RecordsBroken, OSError) as error:
            self._store.close()
            raise CannotStart(str(error)) from error
        self._tokens, self._nodes = TokenStore(records), NodeRegistry(records)
        self._offload = Offload()
        self._audit = AuditLog(config.state_dir / "audit.log")
        authenticate = by_certificate_or_token(config.trust_domain, self._bearers.judge, revoked_nodes(self._ca))
        self._ads = AdsService(config.trust_domain, authenticate=authenticate)
        store = DocumentStore(self._store.documents, records, config.state_dir, config.mesh)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._registry = Registry(
            records,
            self._store.name,
            config.registry.lease,
            self._look_again,
            problem=self._store.problem,
            run=self._offload,
        )
        self._planes = Planes(records, self._store.name, os.uname().nodename)
        self._live = LiveDocuments(store, self._ads.publish, lambda: self._registry.presence)
        self._grpc = GrpcServer(
            self._ca,
            [
                self._ads,
                CertificateService(
                    self._ca,
                    self._live.registered,
                    self._audit,
                    authenticate,
                    self._offload,
                    shared_inbound=config.certificates.shared_inbound,
                ),
                EnrolmentService(self._ca, self._tokens, self._audit, self._nodes, run=self._offload),
                RegistryService(self._registry, by_certificate(config.trust_domain, revoked_nodes(self._ca))),
            ],
            hosts=config.server_names,
            bind=config.listen.address or None,
            port=config.listen.port,
        )
        self._trust = TrustKeeper(self._ca, self._ads, self._audit, reload_server=self._grpc.reload)

    def stop(self) -> None:
        """Begin a graceful end of `run`."""
        self._stop.set()

    def hang_up(self) -> None:
        """Read the configuration again; what can be taken over without a restart is."""
        self._hangup.set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            CannotStart: a port or socket is not to be had.
        """
        try:
            listener = listen(self._config.socket, self._config.socket_group)
        except SocketUnusable as error:
            self._store.close()
            raise CannotStart(str(error)) from error
        self._loop = asyncio.get_running_loop()
        self._store.records.follow(DOCUMENTS, lambda _key, _record: self._look_again())
        self._store.records.follow(REVOKED, lambda _key, _record: self._look_at_revocations())
        try:
            self._trust.publish()
            await self._grpc.start()
        except (CannotListen, CaBroken) as error:
            self._store.close()
            self._close(listener)
            raise CannotStart(str(error)) from error
        enrolment = EnrolmentApi(self._tokens, self._nodes, self._bearers, self._audit, run=self._offload)
        api = Api(self._live, enrolment, self._audit, self._status, CaApi(self._ca, self._trust, self._audit))
        runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=_API_SHUTDOWN_TIMEOUT)
        try:
            await runner.setup()
            await web.SockSite(runner, listener).start()
            await self._serve()
        finally:
            await self._grpc.stop()
            await runner.cleanup()
            self._offload.close()
            await asyncio.to_thread(self._store.close)
            self._close(listener)

    def _look_at_revocations(self) -> None:
        """In any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._trust.look)

    def _look_again(self) -> None:
        """In any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._live.look)

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            documents = self._store.documents
            running = [
                tasks.create_task(self._live.watch(), name="documents"),
                tasks.create_task(self._ads.run(), name="xds"),
                tasks.create_task(self._grpc.run(), name="server certificate"),
                tasks.create_task(self._trust.run(), name="trust"),
                tasks.create_task(self._registry.run(), name="registry"),
                tasks.create_task(self._planes.run(), name="other control planes"),
                tasks.create_task(feed_watchdog(), name="watchdog"),
                tasks.create_task(self._announce(), name="readiness"),
                tasks.create_task(self._reload(), name="reload"),
            ]
            if not documents.shared:
                following = follow(documents.path, self._live.look, self._live.follow)
                running.append(tasks.create_task(following, name="changes of documents"))
            await self._stop.wait()
            notify_stopping()
            await self._ads.drain()
            for task in running:
                task.cancel()

    async def _announce(self) -> None:
        await self._live.started.wait()
        settle()
        config = self._config
        notify_ready(f"port {self._grpc.port}, {self._store.documents.path}")
        _log.info(
            "control plane %s ready: port %d, trust domain %s, documents %s, root certificate %s",
            __version__,
            self._grpc.port,
            config.trust_domain,
            self._store.documents.path,
            self._ca.root_path,
        )
        if self._live.current is None:
            _log.error("no agent is told anything before the documents are right")

    async def _reload(self) -> None:
        """At each SIGHUP; a mistake changes nothing."""
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            notify_reloading()
            try:
                self._config, left = taken_over(self._config, await asyncio.to_thread(self._read))
                replace_levels(parse_levels(self._config.log.level))
                await self._live.use(self._config.mesh)
                _log.info("configuration read again%s", f"; a restart is needed for {', '.join(left)}" if left else "")
            except InvalidYaml as error:
                _log.error("configuration not taken over, everything stays as it was: %s", error)
            notify_ready()

    def _status(self) -> Mapping[str, Any]:
        config = self._config
        return {
            "version": __version__,
            "since": self._began,
            "port": self._grpc.port,
            "trustDomain": config.trust_domain,
            "clusterId": config.cluster_id,
            "documentsDir": str(self._store.documents.path),
            "store": {"at": self._store.records.where, "problem": self._store.problem()},
            "rootCert": str(self._ca.root_path),
            "controlPlanes": self._planes.describe(),
            "registry": self._registry.describe(),
            "nodes": [dataclasses.asdict(node) for node in self._ads.connected_nodes()],
        }

    def _close(self, listener: socket.socket) -> None:
        listener.close()
        self._config.socket.unlink(missing_ok=True)


async def run(config: ControlPlaneConfig, read: Callable[[], ControlPlaneConfig]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP has the configuration read again.

    Raises:
        CannotStart: with everything a user needs to know.
    """
    plane = ControlPlane(config, read)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, plane.hang_up)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, plane.stop)
    await plane.run()
    _log.info("control plane stopped")
