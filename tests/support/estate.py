"""A whole mesh on two hosts: agents and control planes as processes in namespaces, workloads with traffic."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.agent import RunningAgent, agent, start, until
from tests.support.caller import Caller, caller
from tests.support.control_plane import RunningControlPlane, configure, started
from tests.support.documents import document
from tests.support.netns import Cgroup, Namespace

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

PORT = 8080
SHORT_LIVED = "tests.support.short_lived"
"""The program of agents and control planes."""
STRICT = document("PeerAuthentication", "mtls: {mode: STRICT}", "name: default, namespace: prod")


def entry(name: str, address: str, node: str) -> str:
    """A registration: workload prod/<name>, whose service account has its name too."""
    return document(
        "WorkloadEntry",
        f"address: {address}\nserviceAccount: {name}",
        f"name: {name}, namespace: prod, labels: {{hostmesh.io/node: {node}}}",
    )


def identity(name: str) -> str:
    """Of a workload of the estate."""
    return f"spiffe://cluster.local/ns/prod/sa/{name}"


class Estate:
    """Workloads a1, a2 ... on host1 (`lab.host`), b1, b2 ... on host2 (`lab.peer`), where the control planes run too.

    Each listens on port 8080 and its number and sends back what it gets. What is not understood by both agents would be
    plaintext, which STRICT refuses: each request that is answered went through a tunnel.

    Args:
        stack: ends everything.
        lab: the namespaces.
        directory: of the files.
        planes: settings of each control plane.
        pairs: how many workloads on each host.
        ttl: seconds that their certificates live.
    """

    def __init__(
        self,
        stack: ExitStack,
        lab: Lab,
        directory: Path,
        *,
        planes: list[dict[str, Any]],
        pairs: int = 2,
        ttl: float = 86400.0,
    ) -> None:
        self.lab = lab
        self._stack = stack
        self._directory = directory
        self._ttl = ttl
        self._top = Path(lab.a.path).parent
        self.planes = [self._plane(number, settings) for number, settings in enumerate(planes)]
        numbers = range(1, pairs + 1)
        self.hosts = {f"{letter}{n}": where for letter, where in (("a", lab.host), ("b", lab.peer)) for n in numbers}
        self.cgroups = {name: self._cgroup(name) for name in self.hosts}
        nodes = {"a": "host1", "b": "host2"}
        self.apply(*(entry(name, where.v4, nodes[name[0]]) for name, where in self.hosts.items()), STRICT)
        self.agents = [
            self._agent(node, where, [name for name in self.hosts if name[0] == letter], first % len(planes))
            for first, (letter, node, where) in enumerate((("a", "host1", lab.host), ("b", "host2", lab.peer)))
        ]
        for name, where in self.hosts.items():
            stack.enter_context(echo(lab.listen(where, where.v4, self.target(name)[1], self.cgroups[name])))
        for made in self.agents:
            until(lambda made=made: json.loads(made.get(15000, "/status"))["ready"])  # type: ignore[misc]

    def apply(self, *texts: str, plane: int = 0) -> None:
        """As `hostmesh apply` does."""
        files = [{"source": f"{number}.yaml", "text": text} for number, text in enumerate(texts)]
        self.planes[plane].client.apply(files, dry_run=False)

    def command(self, *words: str, plane: int = 0, check: bool = True) -> subprocess.CompletedProcess[str]:
        """What an operator types on the control plane's host; `--socket` is added."""
        argv = [sys.executable, "-m", "hostmesh", *words, "--socket", str(self.planes[plane].socket)]
        return subprocess.run(argv, check=check, capture_output=True, text=True)

    def rotation(self, plane: int = 0) -> dict[str, Any]:
        """Where a rotation of the root is."""
        return dict(self.planes[plane].client.ca()["rotation"])

    def told(self, made: RunningAgent) -> dict[str, str]:
        """What an agent knows: workloads and whether they are in rotation."""
        return {one["name"]: one["status"] for one in json.loads(made.get(15000, "/config_dump"))["workloads"]}

    def serials(self, made: RunningAgent) -> dict[str, str]:
        """Of the certificates that an agent's workloads have now, by name."""
        workloads = json.loads(made.get(15000, "/status"))["workloads"]
        return {one["name"]: one["certificate"]["serial"] for one in workloads}

    def target(self, name: str) -> tuple[str, int]:
        """Where a workload listens."""
        return self.hosts[name].v4, PORT + int(name[1:])

    def connect(self, client: str, server: str) -> socket.socket:
        """A connection between workloads of two hosts, which has had its first answer."""
        sock = self.lab.connect(self.hosts[client], self.target(server), self.cgroups[client])
        ask(sock)
        return sock

    def reaches(self, client: str, server: str) -> bool:
        """Whether a new connection is let through."""
        try:
            self.connect(client, server).close()
        except OSError:
            return False
        return True

    @contextmanager
    def traffic(self, *clients: str, to: tuple[str, ...]) -> Iterator[list[Caller]]:
        """These ask those without a pause; afterwards no request has failed."""
        with ExitStack() as stack:
            targets = [self.target(name) for name in to]
            callers = [stack.enter_context(caller(self.hosts[one], self.cgroups[one], *targets)) for one in clients]
            for one in callers:
                one.more()
            yield callers
            for one in callers:
                one.more()
            failures = [failure for one in callers for failure in one.said()[1]]
            assert not failures, "\n".join([f"{len(failures)} requests failed:", *failures[:20], *self._errors()])

    def _errors(self) -> list[str]:
        """What the agents had to say, but for the connections that were well."""
        return [f"{one.host.name}: {line}" for one in self.agents for line in one.log.splitlines() if _is_news(line)]

    def _plane(self, number: int, settings: dict[str, Any]) -> RunningControlPlane:
        directory, port = self._directory / f"cp{number}", 15012 + number
        directory.mkdir()
        where = self.lab.peer
        config = configure(directory, port, where.v4, names=[where.v4], **settings)
        return self._stack.enter_context(started(directory, config, port, where, module=SHORT_LIVED))

    def _cgroup(self, name: str) -> Cgroup:
        made = Cgroup(self.lab.cgroups, str(self._top / f"{name}.service"))
        made.start()
        return made

    def _agent(self, node: str, where: Namespace, names: list[str], first: int) -> RunningAgent:
        """Enrolled by a token of one control plane; of the addresses it tries those behind that one first."""
        directory = self._directory / node
        directory.mkdir()
        made = self._stack.enter_context(agent(where, directory, str(self._top / "$unit")))
        for name in names:
            (made.workloads / f"{name}.yaml").write_text(
                f"workload: prod/{name}\nserviceAccount: {name}\ncapture: {{unit: {name}.service}}\n"
            )
        shutil.copy(self.planes[0].directory / "state" / "ca" / "root-cert.pem", directory / "root.pem")
        (directory / "join-token").write_text(self.planes[first].client.token(node, 60)["token"])
        addresses = [f"{self.lab.peer.v4}:{plane.port}" for plane in self.planes]
        made.configure(
            node=node,
            workers=1,
            control_plane={"addresses": addresses, "root_cert": str(directory / "root.pem")},
            certificates={"ttl": self._ttl},
        )
        start(made, module=SHORT_LIVED)
        return made


def ask(sock: socket.socket) -> None:
    """One request."""
    sock.sendall(b"ping")
    if sock.recv(4) != b"ping":
        raise ConnectionError("closed before the answer")


@contextmanager
def echo(listener: socket.socket) -> Iterator[None]:
    """Send back whatever comes over any connection, until the listener is closed."""
    listener.settimeout(None)
    accepting = threading.Thread(target=_accept, args=(listener,), daemon=True)
    accepting.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    accepting.join()


def _accept(listener: socket.socket) -> None:
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(accepted,), daemon=True).start()


def _serve(sock: socket.socket) -> None:
    with sock, suppress(OSError):
        while data := sock.recv(4096):
            sock.sendall(data)


def _is_news(line: str) -> bool:
    """A neighbour's port that was asked for at the wrong one of a host is none."""
    return "APPLICATION_REFUSED" not in line and ("connection complete" not in line or "error=" in line)
