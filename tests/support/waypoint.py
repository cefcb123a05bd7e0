"""A real Envoy as waypoint between an HBONE client and the proxies of the test."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h2.events
from h2.exceptions import StreamClosedError
from tests.support.addresses import fresh_ip
from tests.support.hbone_peer import Peer, dial
from tests.support.patience import PATIENCE
from tests.support.pki import Authority

from hostmesh.model.identity import Identity
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.waypoint.envoy import binary, validate
from hostmesh.waypoint.generations import Generations
from hostmesh.waypoint.resources import bootstrap, files, secret_files, validation
from hostmesh.waypoint.tunnels import FLUSH_MILLISECONDS

WAYPOINT = Identity("cluster.local", "default", "waypoint")


@dataclass
class Answer:
    """What came back for a request, or (status 0) that nothing did."""

    status: int
    body: bytes = b""
    headers: dict[str, str] | None = None


class RunningWaypoint:
    """Envoy with the files of a program; `program` may be replaced."""

    def __init__(self, directory: Path, authority: Authority, ip: str, identity: Identity = WAYPOINT) -> None:
        self.identity = identity
        self.authority = authority
        self.ip = ip
        self.directory = directory
        self.generations = Generations(directory / "xds")
        self.log = directory / "envoy.log"
        self.admin = directory / "admin.sock"
        self.clients: list[Client] = []

    def client(self, identity: Identity) -> Client:
        """A new connection of this identity, closed with the waypoint."""
        self.clients.append(Client(self, identity))
        return self.clients[-1]

    def program(self, program: WaypointProgram, crls: bytes = b"") -> None:
        """Validate and publish, as the waypoint does."""
        own = self.authority.issue(self.identity)
        secrets = secret_files(own.chain_pem.decode(), own.key_pem.decode(), own.roots_pem.decode(), crls.decode())
        made = files(program, str(self.generations.directory), self.ip, program.port)
        asyncio.run(validate(validation(made, secrets)))
        self.generations.publish(made | secrets)

    def start(self, concurrency: int = 2) -> subprocess.Popen[bytes]:
        self._concurrency = concurrency
        config = self.directory / "bootstrap.json"
        config.write_text(json.dumps(bootstrap("wp", str(self.generations.directory), str(self.admin))))
        command = [
            str(binary()),
            "-c",
            str(config),
            "--concurrency",
            str(concurrency),
            "--use-dynamic-base-id",
            "-l",
            "warning",
        ]
        command += ["--file-flush-interval-msec", str(FLUSH_MILLISECONDS), "--drain-time-s", "1"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self.process

    def get(self, path: str) -> str:
        """What its admin port answers."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.admin))
            connection = http.client.HTTPConnection("admin")
            connection.sock = sock
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def stat(self, name: str) -> int:
        """A counter or gauge by its full name; 0 where there is none."""
        return int(self.get(f"/stats?filter=^{name}$").rpartition(":")[2] or 0)

    def until(self, condition: Callable[[], object]) -> None:
        """Look until something holds: Envoy says to nobody that it has done what it does once in a while."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def wait(self, name: str, at_least: int) -> None:
        """Until a number is reached."""

        def reached() -> bool:
            with suppress(OSError):  # it has not started yet
                return self.stat(name) >= at_least
            return False

        self.until(reached)

    def obeys(self, update: int) -> None:
        """Until the listeners of this update, counted from 1, are every worker's, not its main thread's only."""
        self.wait("listener_manager.lds.update_success", update)
        changed = sum(self.stat(f"listener_manager.listener_{what}") for what in ("added", "modified"))
        self.wait("listener_manager.listener_create_success", changed * self._concurrency)


@contextmanager
def waypoint(
    directory: Path,
    authority: Authority,
    program: WaypointProgram,
    ip: str = "",
    concurrency: int = 2,
    identity: Identity = WAYPOINT,
) -> Iterator[RunningWaypoint]:
    """Serving this program until the end of the context, at an address of its own."""
    made = RunningWaypoint(directory, authority, ip or fresh_ip(), identity)
    made.program(program)
    process = made.start(concurrency)
    try:
        made.wait("listener_manager.workers_started", 1)
        made.wait("listener_manager.total_listeners_active", 3)
        made.obeys(1)
        yield made
    finally:
        for client in made.clients:
            client.peer.close()
        process.kill()
        process.wait()


class Client:
    """An HBONE client of one identity, on one mTLS connection."""

    def __init__(self, waypoint: RunningWaypoint, identity: Identity) -> None:
        credentials = waypoint.authority.issue(identity)
        self.peer: Peer = dial((waypoint.ip, 15008), credentials, credentials.roots_pem)
        self.baggage = ""

    def tunnel(self, authority: str) -> tuple[int, int]:
        """Stream and status of a CONNECT."""
        stream = self.peer.connect(authority, *([("baggage", self.baggage)] if self.baggage else []))
        return stream, int(self.peer.answer(stream)[":status"])

    def read(self, stream: int) -> bytes:
        """The next bytes; nothing when the stream ended."""
        while True:
            event = self.peer.wait(object, stream)
            if isinstance(event, h2.events.DataReceived):
                self.peer.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                self.peer.flush()
                return event.data
            if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                return b""

    def ask(self, authority: str, request: str = "GET / HTTP/1.1", *headers: str) -> Answer:
        """One request of HTTP/1.1 on a tunnel of its own."""
        stream, status = self.tunnel(authority)
        if status != 200:
            return Answer(status)
        host = [] if any(one.startswith("host:") for one in headers) else ["host: test"]
        lines = [request, *host, *headers, "connection: close", "", ""]
        self.peer.send(stream, "\r\n".join(lines).encode())
        said = b""
        while not whole(said) and (data := self.read(stream)):
            said += data
        with suppress(StreamClosedError):  # done with it: only so many may be open
            self.peer.h2.reset_stream(stream, 8)
            self.peer.flush()
        head, _, body = said.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        if not first:
            return Answer(0)
        pairs = (line.partition(": ") for line in rest)
        return Answer(int(first.split()[1]), _unchunked(body, rest), {name: value for name, _, value in pairs})


def whole(said: bytes) -> bool:
    """Whether an answer with a length is there; Envoy closes a second later."""
    head, end, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length.group(1))


def _unchunked(body: bytes, headers: list[str]) -> bytes:
    if "transfer-encoding: chunked" not in headers:
        return body
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return whole
