"""A pair of hostmesh agents without a control plane: the real capture and real proxy workers, fed from files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.pki import Authority

from bench import host as host_program
from bench.generator import CACHE, BenchFailed
from bench.identities import CLIENT, NAMESPACE, SERVER
from bench.site import Host, Site
from hostmesh.config.proxy import ProxyConfig
from hostmesh.daemon.frames import frame
from hostmesh.daemon.messages import credentials_update, local_workloads_update, state_update
from hostmesh.model.address import parse_ip
from hostmesh.model.authorization import Action, Authorization, Match, PolicyScope, StringMatch, StringMatchKind
from hostmesh.model.identity import Credentials
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.model.workload import Protocol, Workload
from hostmesh.redirect.apply import Redirector
from hostmesh.redirect.plan import CapturedUnit, plan
from hostmesh.transport.tls.engine import Engine
from hostmesh.transport.tls.select import provider
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.codec import encode_authorization, encode_service, encode_workload

NETWORK = "bench"

_ROOT = Path(__file__).parent.parent


class Agent:
    """One host's agent: its small main (`bench.host`) and the proxy workers below it."""

    def __init__(self, process: subprocess.Popen[str], workers: list[int]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands = process.stdin
        self._answers = process.stdout
        self.main = process.pid
        self.workers = workers

    def apply(self, messages: Path) -> None:
        """Hand messages to the workers and wait until they have applied them."""
        self.begin_apply(messages)
        self.wait_applied()

    def begin_apply(self, messages: Path) -> None:
        """Hand messages to the workers; `wait_applied` must follow."""
        print(messages, file=self._commands, flush=True)

    def wait_applied(self) -> None:
        """Wait until the workers have applied what they were given.

        Raises:
            BenchFailed: main ended.
        """
        line = self._answers.readline()
        if not line.startswith(host_program.APPLIED):
            raise BenchFailed(f"the agent said {line!r} where it should have applied an update")


@dataclass(frozen=True, slots=True)
class Pair:
    """The agents of the client's and of the server's host."""

    client: Agent
    server: Agent

    @property
    def processes(self) -> dict[str, int]:
        """Everything that the pair costs: the mains write the access log."""
        return {
            **{f"worker {name}": pid for name, agent in self._named() for pid in agent.workers},
            **{f"main {name}": agent.main for name, agent in self._named()},
        }

    def _named(self) -> tuple[tuple[str, Agent], ...]:
        return (("client", self.client), ("server", self.server))


@contextmanager
def pair(
    where: Site, authority: Authority | None = None, more: Sequence[Workload] = (), services: Sequence[Service] = ()
) -> Iterator[Pair]:
    """Capture both units and start both agents with one worker each.

    Args:
        where: for them.
        authority: of their certificates.
        more: workloads of the mesh, which may call the application, too.
        services: of the mesh; the application is an endpoint of each.
    """
    authority = authority or Authority()
    policy = _policy(more)
    behind = {one.namespaced_hostname: one.ports for one in services}
    own = tuple(
        Workload(
            uid=f"bench//WorkloadEntry/{NAMESPACE}/{identity.service_account}",
            name=identity.service_account,
            namespace=NAMESPACE,
            addresses=(parse_ip(host.namespace.v4),),
            network=NETWORK,
            protocol=Protocol.HBONE,
            service_account=identity.service_account,
            canonical_name=identity.service_account,
            canonical_revision="v1",
            workload_name=identity.service_account,
            authorization_policies=(policy.key,) if identity == SERVER else (),
            services=behind if identity == SERVER else {},
        )
        for identity, host in ((CLIENT, where.client), (SERVER, where.server))
    )
    told = state_update(
        [encode_workload(one).SerializeToString() for one in (*own, *more)]
        + [encode_service(one).SerializeToString() for one in services],
        authorizations=[encode_authorization(policy).SerializeToString()],
    )
    with ExitStack() as stack:
        agents = [
            stack.enter_context(_agent(where, host, authority.issue(identity), told))
            for identity, host in ((CLIENT, where.client), (SERVER, where.server))
        ]
        yield Pair(*agents)


def _policy(more: Sequence[Workload]) -> Authorization:
    callers = [CLIENT, *(one.identity for one in more)]
    names = tuple(StringMatch(StringMatchKind.EXACT, str(one).removeprefix("spiffe://")) for one in callers)
    rules = (((Match(principals=names),),),)
    return Authorization("allow-load", NAMESPACE, PolicyScope.WORKLOAD_SELECTOR, Action.ALLOW, rules)


def cipher() -> str:
    """What two proxies of this machine negotiate, found by a handshake in memory with the workers' own engine."""
    tls = provider(ProxyConfig().tls_engine)
    authority = Authority()
    client = tls.client_context(authority.issue(CLIENT)).engine(None)
    server = tls.server_context(authority.issue(SERVER)).engine()
    for _ in range(8):
        done = client.handshake()
        _carry(client, server)
        if server.handshake() and done:
            break
        _carry(server, client)
    return f"{client.cipher} ({tls.name}: {tls.library})"


def write_messages(path: Path, messages: Iterable[pb.ToWorker]) -> Path:
    """As `bench.host` reads them."""
    path.write_bytes(b"".join(map(frame, messages)))
    return path


@contextmanager
def _agent(where: Site, host: Host, credentials: Credentials, told: pb.ToWorker) -> Iterator[Agent]:
    name = credentials.identity.service_account
    directory = where.directory / name
    directory.mkdir(mode=0o700)
    local = LocalWorkload(1, name, NAMESPACE, credentials.identity, host.cgroup.directory.name)
    ruleset = plan([CapturedUnit(local, host.cgroup.path)], cgroup_prefix=where.cgroups.nft_prefix)
    with host.namespace.entered():
        Redirector(where.cgroups, directory).apply(ruleset)
    snapshot = write_messages(directory / "snapshot", _snapshot(local, credentials, told))
    config = ProxyConfig(node=name, network=NETWORK)
    command = [sys.executable, "-m", "bench.host", config.to_json(), str(snapshot)]
    environment = as_installed()
    with ExitStack() as stack:
        log = stack.enter_context((directory / "log").open("w"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        with host.namespace.entered():
            process = stack.enter_context(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
                )
            )
        stack.callback(process.kill)
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        if ready[:1] != [host_program.READY]:
            raise BenchFailed(f"the agent of {name} does not start:\n{(directory / 'log').read_text()}")
        yield Agent(process, [int(pid) for pid in ready[1:]])


@cache
def as_installed() -> dict[str, str]:
    """An installed agent has its byte path compiled, and bytecode of the rest: who makes that first stays larger."""
    package, bytecode = CACHE / "package", CACHE / "bytecode"
    subprocess.run([sys.executable, _ROOT / "agent" / "hatch_build.py", package], check=True)
    environment = {**os.environ, "PYTHONPATH": f"{package}:{_ROOT}", "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    program = "import bench.host, hostmesh.daemon.proxy_worker, hostmesh.daemon.worker, hostmesh.transport.tls.bundled"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    return environment


def _snapshot(local: LocalWorkload, credentials: Credentials, told: pb.ToWorker) -> Iterator[pb.ToWorker]:
    yield told
    yield local_workloads_update([local])
    yield credentials_update([credentials])
    yield pb.ToWorker(serve=pb.Serve())


def _carry(source: Engine, target: Engine) -> None:
    while len(view := source.pending_out()):
        target.feed(view)
        source.sent(len(view))
