"""A whole control plane on loopback, and hosts that talk to it: real certificates, real TLS, ephemeral ports."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.addresses import free_port
from tests.support.patience import PATIENCE
from tests.support.records import records

from hostmesh.control.ads import AdsService
from hostmesh.control.audit import AuditLog
from hostmesh.control.bearer import BearerTokens
from hostmesh.control.ca import CertificateAuthority
from hostmesh.control.certificate_service import CertificateService
from hostmesh.control.debounce import Debounce
from hostmesh.control.enrolment_service import EnrolmentService
from hostmesh.control.grpc_server import GrpcServer
from hostmesh.control.nodes import NodeRegistry
from hostmesh.control.peer import by_certificate, by_certificate_or_token
from hostmesh.control.registry import Registry
from hostmesh.control.registry_service import RegistryService
from hostmesh.control.shelf import DirectoryShelf
from hostmesh.control.tokens import TokenStore
from hostmesh.control.trust import TrustKeeper, revoked_nodes
from hostmesh.identity.enrolment import enrol
from hostmesh.identity.node import NodeStore
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import ControlPlane

TRUST_DOMAIN = "cluster.local"


def workload(name: str, namespace: str = "default", trust_domain: str = TRUST_DOMAIN) -> Identity:
    return Identity(trust_domain, namespace, name)


class Mesh:
    """The control plane's parts, composed as its main program does."""

    def __init__(self, directory: Path, *, max_ttl: float = 86400.0, node_ttl: float = 86400.0) -> None:
        self.directory = directory
        self.max_ttl = max_ttl
        self.node_ttl = node_ttl
        self.registered: dict[str, set[Identity]] = {}
        self.port = free_port()  # one that a server which starts again still finds free
        self.clock: Callable[[], float] = time.time
        self.open()

    def open(self) -> None:
        """Read the state directory, as a (re)start does."""
        self.directory.mkdir(parents=True, exist_ok=True)
        kept = records(self.directory)
        self.ca = CertificateAuthority(
            self.directory / "ca", TRUST_DOMAIN, kept, max_ttl=self.max_ttl, node_ttl=self.node_ttl
        )
        self.tokens, self.nodes = TokenStore(kept), NodeRegistry(kept)
        self.audit = AuditLog(self.directory / "audit.log")
        self.bearers = BearerTokens(DirectoryShelf(self.directory / "ca"), TRUST_DOMAIN)
        authenticate = by_certificate_or_token(TRUST_DOMAIN, self.bearers.judge, revoked_nodes(self.ca))
        self.ads = AdsService(TRUST_DOMAIN, debounce=Debounce(0.01, 0.05), authenticate=authenticate)
        self.registry = Registry(kept, "cp", 30.0, lambda: None)
        services = [
            self.ads,
            CertificateService(self.ca, lambda node: self.registered.get(node, set()), self.audit, authenticate),
            EnrolmentService(self.ca, self.tokens, self.audit, self.nodes, self.now),
            RegistryService(self.registry, by_certificate(TRUST_DOMAIN, revoked_nodes(self.ca)), self.now),
        ]
        self.server = GrpcServer(self.ca, services, hosts=["127.0.0.1"], bind="127.0.0.1", port=self.port)
        self.trust = TrustKeeper(self.ca, self.ads, self.audit, reload_server=self.server.reload)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Mesh]:
        self.trust.publish()
        await self.server.start()
        self.port = self.server.port
        try:
            async with background(self.server.run(), self.ads.run(), self.trust.run()):
                yield self
        finally:
            await self.ads.drain()
            await self.server.stop()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.port)

    def now(self) -> float:
        """By the control plane's clock, which a test may set."""
        return self.clock()

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "audit.log").read_text().splitlines()]

    def anonymous(self) -> ControlPlane:
        """As a host sees it that has no certificate."""
        return ControlPlane(self.endpoint, self.ca.root_path)

    async def host(self, node: str, now: Callable[[], float] = time.time) -> Host:
        """Enrol a host, by whose clock it is `now`, and give what its agent works with."""
        credentials = await enrol(self.anonymous(), node, TRUST_DOMAIN, self.tokens.mint(node), now=now)
        directory = self.directory / node
        directory.mkdir()
        store = NodeStore(directory)
        store.save(credentials)
        return Host(self, store, credentials)


class Host:
    """An enrolled host."""

    def __init__(self, mesh: Mesh, store: NodeStore, credentials: Credentials) -> None:
        self.store = store
        self.credentials = credentials
        self._mesh = mesh

    @property
    def control_plane(self) -> ControlPlane:
        return ControlPlane(self._mesh.endpoint, self._mesh.ca.root_path, self.store.files)


@asynccontextmanager
async def background(*tasks: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these while the body runs; what they raise fails the body."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(task) for task in tasks]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


async def until(condition: Callable[[], object]) -> None:
    """Wait, as long as the patience lasts, for something that another task brings about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # what is waited for has no event of its own
            await asyncio.sleep(0.005)
