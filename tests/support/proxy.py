"""Two proxies on one loop in a thread: a client's host and a server's host, joined by loopback, with real TLS."""

from __future__ import annotations

import _socket
import contextlib
import hashlib
import itertools
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar, cast

from tests.support.addresses import fresh_ip
from tests.support.patience import PATIENCE
from tests.support.pki import ALICE, BOB, Authority

from hostmesh.config.proxy import ProxyConfig
from hostmesh.model.address import SocketAddress, parse_ip
from hostmesh.model.authorization import Authorization
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.service import Service
from hostmesh.model.workload import Protocol, Workload
from hostmesh.proxy.attribution import Attributed
from hostmesh.proxy.server import ProxyServer
from hostmesh.state.store import MeshState
from hostmesh.telemetry.metrics import Series, label_map
from hostmesh.telemetry.records import LogRecord, Record
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.engine import TlsProvider
from hostmesh.transport.tls.system import SystemTls

CLIENT_IP = "127.0.0.1"
CONFIG = ProxyConfig(
    network="lab", mark=None, connect_timeout=2.0, handshake_timeout=PATIENCE, certificate_wait=1.0, node="here"
)

_T = TypeVar("_T")


class LoopThread:
    """A loop that turns in a thread; `call` runs something on it."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.loop = Loop(lambda _, error: self.errors.append(error))
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self.loop.register(self._woken.fileno(), self._run_calls)
        self._thread = threading.Thread(target=self.loop.run, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], _T]) -> _T:
        """The result of `function`, run between two events of the loop."""
        done: queue.SimpleQueue[tuple[bool, object]] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put((True, function()))
            except Exception as error:  # noqa: BLE001  handed to the caller
                done.put((False, error))

        self._calls.put(run)
        self._wake.send(b"x")
        worked, result = done.get(timeout=PATIENCE)
        if not worked:
            raise result  # type: ignore[misc]
        return result  # type: ignore[return-value]

    def settle(self) -> None:
        """Wait until the current turn has ended: what it closes is closed."""
        done = threading.Event()
        self.call(lambda: self.loop.call_later(0, done.set))
        assert done.wait(PATIENCE)

    def stop(self) -> None:
        """End the thread; what a handler raised meanwhile fails the test."""
        self.loop.stop()
        self._thread.join(PATIENCE)
        self.loop.close()
        self._wake.close()
        self._woken.close()
        if self.errors:
            raise self.errors[0]

    def _run_calls(self, mask: int) -> None:
        del mask
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while not self._calls.empty():
            self._calls.get()()


@dataclass
class FakeMain:
    """The process around a proxy: issues certificates on demand, keeps the log."""

    authority: Authority
    issue: bool = True
    server: ProxyServer | None = None
    wanted: list[Identity] = field(default_factory=list)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wanted_names: list[str] = field(default_factory=list)
    wanted_addresses: list[str] = field(default_factory=list)
    answer_address: Callable[[str], None] | None = None
    used: list[list[str]] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)
    logged: threading.Condition = field(default_factory=threading.Condition)

    def want_credentials(self, identity: Identity) -> None:
        self.wanted.append(identity)
        if self.issue and self.server is not None:
            self.server.put_credentials(self.authority.issue(identity))

    def want_name(self, hostname: str) -> None:
        """Answered by `names`; what is not in it waits for ever."""
        self.wanted_names.append(hostname)
        if self.server is not None and hostname in self.names:
            addresses = tuple(map(parse_ip, self.names[hostname]))
            self.server.put_name(hostname, addresses, 30.0, "" if addresses else f"{hostname}: no such name")

    def want_address(self, name: str) -> None:
        """Answered by `answer_address`, if there is one; waits for ever otherwise."""
        self.wanted_addresses.append(name)
        if self.answer_address is not None:
            self.answer_address(name)

    def used_addresses(self, names: Sequence[str]) -> None:
        self.used.append(sorted(names))

    def log(self, records: Sequence[Record]) -> None:
        with self.logged:
            self.records += cast("Sequence[LogRecord]", records)
            self.logged.notify_all()

    def wait_logs(self, count: int) -> list[LogRecord]:
        """The log, once it has that many records."""
        with self.logged:
            assert self.logged.wait_for(lambda: len(self.records) >= count, PATIENCE), self.records
            return list(self.records)


class Host:
    """One proxy with its state and its main process."""

    def __init__(
        self,
        thread: LoopThread,
        authority: Authority,
        locals_: Sequence[LocalWorkload],
        mesh: Sequence[Workload | Service],
        *,
        config: ProxyConfig = CONFIG,
        tls: TlsProvider | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.thread = thread
        self.main = FakeMain(authority)
        self.state = MeshState()
        self.destination = SocketAddress.of("127.0.0.1", 1)
        self.number = 1
        self.server = ProxyServer(
            thread.loop, config, tls or SystemTls(), self.state, self.main, attribution=self._attribute, clock=clock
        )
        self.main.server = self.server
        self.put(*mesh)
        self.call(lambda: self.server.set_local_workloads(locals_))

    def call(self, function: Callable[[], _T]) -> _T:
        """Run on the loop."""
        return self.thread.call(function)

    def put(self, *resources: Workload | Service | Authorization) -> None:
        """What a push of the control plane does."""

        def apply() -> None:
            for resource in resources:
                match resource:
                    case Workload():
                        self.state.upsert_workload(resource)
                    case Service():
                        self.state.upsert_service(resource)
                    case Authorization():
                        self.state.upsert_authorization(resource)
            self.server.state_changed()

        self.call(apply)

    def listen(self, kind: str, ip: str, port: int = 0) -> SocketAddress:
        """Open a listener of the proxy."""
        listener = socket.create_server((ip, port), backlog=512)
        address = SocketAddress.of(*listener.getsockname()[:2])
        self.call(lambda: self.server.set_listener(kind, listener))
        return address

    def samples(self, metric: str) -> list[tuple[dict[str, str], int]]:
        """Labels and values of one metric."""
        series: list[Series] = self.call(self.server.metrics.snapshot)
        return [(dict(label_map(one)), one.value) for one in series if one.metric == metric]

    def total(self, metric: str) -> int:
        """The sum over all labels."""
        return sum(value for _, value in self.samples(metric))

    def _attribute(self, sock: _socket.socket) -> Attributed:
        del sock
        return Attributed(self.number, self.destination)


class Mesh:
    """A client's host with `alice` and a server's host with `bob`."""

    def __init__(
        self,
        *,
        client_config: ProxyConfig = CONFIG,
        server_config: ProxyConfig = CONFIG,
        client_tls: TlsProvider | None = None,
        server_tls: TlsProvider | None = None,
        client_authority: Authority | None = None,
        server_authority: Authority | None = None,
        bob: Workload | None = None,
        mesh: Sequence[Workload | Service] = (),
        beside_bob: Sequence[Identity] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        logging.getLogger("hostmesh").setLevel(logging.INFO)
        self.thread = LoopThread()
        self.authority = Authority()
        self.ip = fresh_ip()
        self.alice = workload("alice", ALICE, CLIENT_IP)
        self.bob = replace(bob or workload("bob", BOB, self.ip), addresses=(parse_ip(self.ip),))
        beside = [workload(one.service_account, one, self.ip) for one in beside_bob]
        everybody = [self.alice, self.bob, *beside, *mesh]
        self.client = Host(
            self.thread,
            client_authority or self.authority,
            [LocalWorkload(1, "alice", "default", ALICE, "alice.service")],
            everybody,
            config=client_config,
            tls=client_tls,
            clock=clock,
        )
        self.server = Host(
            self.thread,
            server_authority or self.authority,
            [
                LocalWorkload(number, one.service_account, "default", one, f"{one.service_account}.service")
                for number, one in enumerate((BOB, *beside_bob), 1)
            ],
            everybody,
            config=server_config,
            tls=server_tls,
            clock=clock,
        )
        self.outbound = self.client.listen("outbound", CLIENT_IP)
        self.inbound = self.server.listen("inbound", self.ip, 15008)

    def connect(self, port: int) -> socket.socket:
        """What a captured application of alice gets when it connects to bob's `port`."""
        self.client.destination = SocketAddress.of(self.ip, port)
        return self.dial()

    def dial(self) -> socket.socket:
        """A connection to wherever the client's destination points."""
        sock = socket.create_connection((str(self.outbound.ip), self.outbound.port), timeout=PATIENCE)
        # The destination is asked at accept: let the loop accept before the test changes it.
        self.thread.call(lambda: None)
        return sock

    def app(self, serve: Callable[[socket.socket], None]) -> App:
        """An application of bob."""
        return App(self.ip, serve)

    def close(self) -> None:
        """End both proxies; fails if anything was left open."""
        for host in (self.client, self.server):
            drained = threading.Event()
            host.call(lambda host=host, drained=drained: host.server.drain(0.0, drained.set))  # type: ignore[misc]
            assert drained.wait(PATIENCE), host.call(host.server.connections)
        self.thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class App:
    """A server application: every accepted connection gets a thread that runs `serve` and then closes."""

    def __init__(self, ip: str, serve: Callable[[socket.socket], None]) -> None:
        self.ip = ip
        self._serve = serve
        self._listener = socket.create_server((ip, 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._socks: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            sock.settimeout(PATIENCE)
            self._socks.append(sock)
            thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        with sock:
            try:
                self._serve(sock)
            except OSError as error:
                self.failures.append(error)

    def close(self) -> None:
        """Stop; connections that are still open are cut."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE)
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def workload(name: str, identity: Identity, ip: str) -> Workload:
    """An HBONE workload of the lab."""
    return Workload(
        uid=f"lab//{name}",
        name=name,
        namespace=identity.namespace,
        addresses=(parse_ip(ip),),
        network="lab",
        protocol=Protocol.HBONE,
        service_account=identity.service_account,
        node="here",
        workload_name=name,
        canonical_name=name,
    )


def echo(sock: socket.socket) -> None:
    """Give everything back; end when the client ends."""
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def assert_reset(dial: Callable[[], socket.socket]) -> None:
    """The proxy resets the connection; perhaps so soon that `connect` itself already says it."""
    try:
        sock = dial()
    except ConnectionResetError:
        return
    with sock:
        try:
            data = sock.recv(1)
        except ConnectionResetError:
            return
    raise AssertionError(f"not reset, but {data!r}")


def receive_all(sock: socket.socket) -> bytes:
    """Everything up to the end of stream."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def send_until_blocked(sock: socket.socket) -> int:
    """Send until nobody takes any more; how many bytes that were."""
    sock.settimeout(0.3)
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(65536))
    except TimeoutError:
        return sent


def pattern(size: int, seed: int = 0) -> Iterator[bytes]:
    """Reproducible bytes in uneven pieces."""
    block = hashlib.shake_128(seed.to_bytes(8, "big")).digest(1 << 18)
    sent = 0
    for step in itertools.cycle((1 << 18, 1, 4097, 65535)):
        piece = block[: min(step, size - sent)]
        if not piece:
            return
        sent += len(piece)
        yield piece
