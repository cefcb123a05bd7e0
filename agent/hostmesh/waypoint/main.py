"""The waypoint program: follows the control plane, has its certificate, programs and supervises an Envoy."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from hostmesh import __version__
from hostmesh.config.agent import AgentConfig
from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.manager import SecretManager
from hostmesh.identity.node import NodeStore
from hostmesh.kernel import systemd
from hostmesh.kernel.program import SIGNALS, Program
from hostmesh.kernel.watchdog import feed_watchdog
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import ControlPlane
from hostmesh.rpc.roots import Roots
from hostmesh.waypoint.doors import METRICS_PORT, metrics_app, serving, status_app
from hostmesh.waypoint.envoy import validate
from hostmesh.waypoint.generations import Generations
from hostmesh.waypoint.process import EnvoyProcess
from hostmesh.waypoint.publisher import Publisher
from hostmesh.waypoint.resources import bootstrap
from hostmesh.waypoint.tunnels import FILE, Peer, Tunnels
from hostmesh.xds.client import NodeInfo, XdsClient, XdsStatus
from hostmesh.xds.codec import WAYPOINT_TYPES, decode_program, decode_trust
from hostmesh.xds.held import XdsUpdate

_log = logging.getLogger("hostmesh.waypoint")


@dataclass(frozen=True, slots=True)
class Options:
    """`gateway` is `namespace/name`; `runtime` is short-lived and private, `state` survives."""

    gateway: str
    runtime: Path
    state: Path
    bind: str = "0.0.0.0"
    concurrency: int = 1
    metrics_port: int = METRICS_PORT

    @property
    def socket(self) -> Path:
        """Where `hostmesh waypoint status` asks."""
        return self.runtime / "waypoint.sock"


class Waypoint:
    """One waypoint on this host.

    Args:
        config: the host's, of which it takes the control plane and the node's certificate.
        options: what is its own.
        program: what this process runs, to become what is installed in its place; None: it stays what it is.
    """

    def __init__(self, config: AgentConfig, options: Options, program: Program | None = None) -> None:
        settings = config.settings
        self._options = options
        control_plane = ControlPlane(
            Endpoint.parse(settings.control_plane.address, settings.control_plane.server_name),
            Roots(settings.control_plane.root_cert, settings.state_dir / "roots.json"),
            NodeStore(settings.state_dir).files,
        )
        self._generations = Generations(options.runtime / "xds")
        self._tunnels = Tunnels(self._generations.directory / FILE, self._close_tunnels)
        self._publisher = Publisher(self._generations, options.bind, validate, self._tunnels.close_again)
        self._secrets = SecretManager(
            CaClient(control_plane, settings.certificates.ttl).fetch,
            on_credentials=self._on_credentials,
            on_failure=self._on_failure,
        )
        self._xds = XdsClient(
            control_plane,
            NodeInfo(config.node, "0.0.0.0", metadata={"HOSTMESH_WAYPOINT": options.gateway}),
            self._on_update,
            on_status=self._on_status,
            types=WAYPOINT_TYPES,
            snapshot_path=options.state / f"{options.gateway.replace('/', '.')}.snapshot",
        )
        file = options.runtime / "bootstrap.json"
        content = bootstrap(options.gateway, str(self._generations.directory), str(options.runtime / "admin.sock"))
        file.write_text(json.dumps(content))
        self._envoy = EnvoyProcess(options.runtime, file, options.concurrency, lambda _: None)
        self._stopping = asyncio.Event()
        self._program = program
        self._installed = program.installed() if program is not None else ""

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP replaces Envoy, and this program by a newer one, without a cut.

        Raises:
            EnvoyMissing: it is not installed.
            OSError: the runtime directory is not ours.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a program before this one may have left them waiting
        status = web.AppRunner(status_app(self.status), access_log=None)
        metrics = web.AppRunner(metrics_app(self.status, self._envoy.ask), access_log=None)
        try:
            await status.setup()
            self._options.socket.unlink(missing_ok=True)
            await web.UnixSite(status, str(self._options.socket)).start()
            if self._options.metrics_port:
                await metrics.setup()
                await web.TCPSite(metrics, self._options.bind, self._options.metrics_port).start()
            async with asyncio.TaskGroup() as tasks:
                parts = [
                    tasks.create_task(self._xds.run(), name="xds"),
                    tasks.create_task(self._secrets.run(), name="certificates"),
                    tasks.create_task(self._publisher.run(), name="publisher"),
                    tasks.create_task(self._serve(), name="envoy"),
                    tasks.create_task(self._tunnels.run(), name="tunnels"),
                    tasks.create_task(feed_watchdog(), name="watchdog"),
                ]
                await self._stopping.wait()
                systemd.notify_stopping("envoy finishes its requests")
                for part in parts:
                    part.cancel()
        finally:
            await status.cleanup()
            await metrics.cleanup()

    async def _serve(self) -> None:
        """Envoy without a configuration would answer nobody; it starts when there is one."""
        await self._publisher.first.wait()
        systemd.notify_ready(f"serving {self._options.gateway}")
        await self._envoy.run()

    def _reload(self) -> None:
        systemd.notify_reloading()
        if self._program is not None and self._program.installed() != self._installed:
            self._become(self._program)
        self._publisher.look_again()
        self._envoy.replace()
        systemd.notify_ready("envoy is being replaced")

    def _become(self, program: Program) -> None:
        """The Envoy that runs stays this process's child; the next program lets one of its own take over."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            program.replace(os.environ)
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            _log.error("%s cannot be started, this program goes on: %s", program.argv[0], error.strerror)

    def _on_update(self, update: XdsUpdate) -> None:
        if update.trust:
            bundle = decode_trust(update.trust)
            self._publisher.set_trust(bundle)
            self._tunnels.set_trust(bundle)
        data = update.programs.get(self._options.gateway)
        if data is not None:
            program = decode_program(data)
            if program.identity:
                self._secrets.keep_only([Identity.parse(program.identity)])
            else:
                _log.error("%s has no host yet: register this one as WorkloadEntry", self._options.gateway)
            self._publisher.set_program(program)
        elif self._options.gateway in update.removed_programs:
            _log.warning("%s is gone: nothing is served any more", self._options.gateway)
            self._publisher.set_program(None)

    def _on_status(self, status: XdsStatus) -> None:
        if status.connected and self._options.gateway not in self._xds.everything().programs:
            systemd.notify_status(f"there is no Gateway {self._options.gateway}; apply one")

    def _close_tunnels(self, peers: Collection[Peer], insist: bool) -> bool:
        return self._envoy.close_tunnels(peers, insist)

    def _on_credentials(self, credentials: Credentials) -> None:
        self._publisher.set_credentials(credentials)

    def _on_failure(self, identity: Identity, reason: str) -> None:
        _log.error("no certificate for %s: %s", identity, reason)
        systemd.notify_status(f"no certificate for {identity}: {reason}"[:500])

    async def status(self) -> dict[str, Any]:
        """What `hostmesh waypoint status` prints."""
        xds, published = self._xds.status(), self._publisher.status
        try:
            envoy = await self._envoy.status()
        except OSError as error:
            envoy = {"state": "DOWN", "error": str(error)}
        return {
            "gateway": self._options.gateway,
            "version": __version__,
            "process": os.getpid(),
            "ready": envoy["state"] == "LIVE" and not published.error,
            "control_plane": {"connected": xds.connected, "error": xds.error},
            "certificates": [
                {
                    "identity": str(one.identity),
                    "state": one.state,
                    "expires": one.credentials.not_after if one.credentials is not None else None,
                }
                for one in self._secrets.statistics()
            ],
            "configuration": {"published": published.published, "error": published.error},
            "envoy": envoy,
            "envoy_starts": self._envoy.starts,
            "serving": serving(self._publisher.in_force),
            "metrics": f"{self._options.bind}:{port}" if (port := self._options.metrics_port) else "",
        }
