"""`systemctl reload` of a real agent with real traffic: nothing is refused, nothing is cut, nothing is lost."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import RunningAgent, agent, start, until
from tests.support.netns import Namespace

from hostmesh.model.workload import Protocol, Workload

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(600)]

ENROLMENT = "workload: prod/w1\ncapture: {unit: a.service}\n"


@pytest.fixture
def running(lab: Lab, tmp_path: Path) -> Iterator[RunningAgent]:
    """An agent that has captured unit a, which the mesh knows as prod/w1; the control plane is away."""
    directory = tmp_path / "agent"
    directory.mkdir()
    directory.chmod(0o755)
    with agent(lab.host, directory, lab.a.path) as made:
        (made.workloads / "w1.yaml").write_text(ENROLMENT)
        made.knows(
            Workload("node/w1", "w1", "prod", (ip_address(lab.host.v4),), node="host1", protocol=Protocol.HBONE),
        )
        made.configure(node="host1", workers=1)
        start(made)
        yield made


class Echo:
    """A server that sends back what it gets, one thread per connection."""

    def __init__(self, listener: socket.socket) -> None:
        self.address = listener.getsockname()[:2]
        self._listener = listener
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        self._listener.settimeout(None)
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(4096):
                sock.sendall(data)


class Caller:
    """Opens connection after connection, and keeps one open throughout; remembers everything that went wrong."""

    def __init__(self, where: Namespace, target: tuple[str, int]) -> None:
        self._where = where
        self._target = target
        self.lasting = self._connect()
        self.made = 1
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.lasting.close()

    def _connect(self) -> socket.socket:
        with self._where.entered():
            sock = socket.create_connection(self._target, timeout=20)
        try:
            self._ask(sock, b"hello")
        except OSError:
            sock.close()
            raise
        return sock

    def _ask(self, sock: socket.socket, question: bytes) -> None:
        sock.sendall(question)
        answer = b""
        while len(answer) < len(question):
            part = sock.recv(4096)
            if not part:
                raise ConnectionError("cut")
            answer += part

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connect():
                    self.made += 1
                self._ask(self.lasting, b"still here")
            except OSError as error:
                self.wrong.append(str(error))
            self._stop.wait(0.1)


def test_ten_reloads_refuse_nothing_cut_nothing_and_lose_nothing(lab: Lab, running: RunningAgent) -> None:
    """Each one replaces the program and the workers; callers on both sides of the proxy notice none of it."""
    with ExitStack() as stack:
        remote = Echo(lab.listen(lab.peer, lab.peer.v4, 8080))
        own = Echo(lab.listen(lab.host, lab.host.v4, 8010, lab.a))
        stack.enter_context(lab.a.entered())
        outbound, inbound = Caller(lab.host, remote.address), Caller(lab.peer, own.address)
        callers = (outbound, inbound)
        stack.callback(lambda: [caller.stop() for caller in callers])
        before = running.workers()
        for number in range(10):
            running.configure(node="host1", workers=1, pool_max_streams=50 + number)
            before_this = [caller.made for caller in callers]
            assert [note for note in running.reload() if note.startswith("MONOTONIC_USEC=")]
            until(lambda seen=before_this: all(one.made > made for one, made in zip(callers, seen, strict=True)))  # type: ignore[misc]
        assert [caller.wrong for caller in callers] == [[], []]
        assert min(caller.made for caller in callers) > 10
        assert running.process.poll() is None
        after = running.workers()
        assert after[0] not in before
        assert before[0] in after, "it still has the lasting connections"
        dump = json.loads(running.get(15000, "/config_dump"))
        assert (dump["config"]["pool_max_streams"], dump["config"]["poolMaxStreamsPerConn"]) == (59, 59)
        listed = dump["workloadState"]["node/w1"]["connections"]
        assert [one["actualDst"] for one in listed["outbound"]].count(f"{lab.peer.v4}:8080") >= 1
        assert [one["actualDst"] for one in listed["inbound"]].count(f"{lab.host.v4}:8010") >= 1
        for caller in callers:
            caller.stop()
        until(lambda: len(running.workers()) == 1)
        until(lambda: list(running.children()) == running.workers())
        assert "Z" not in running.children().values()
        made = sum(caller.made for caller in callers)
        until(lambda: running.counter("istio_tcp_connections_closed_total") == made)
        until(lambda: running.log.count("connection complete") >= made)  # records travel in batches, after the numbers
        assert running.log.count("connection complete") == made


def test_a_mistake_is_refused_and_a_new_registration_needs_no_new_program(lab: Lab, running: RunningAgent) -> None:
    """What is wrong is named with file, line and field, and everything stays; workloads.d alone replaces nothing."""
    before = running.workers()
    running.configure(node="host1", workers=1, pool_max_stream=1)
    assert any(note.startswith("STATUS=reload refused") for note in running.reload())
    assert f"{running.config}:1: pool_max_stream: unknown field; did you mean 'pool_max_streams'?" in running.log
    running.configure(node="host1", workers=1)
    (running.workloads / "w1.yaml").write_text(ENROLMENT.replace("prod", "test"))
    running.reload()
    assert running.workers() == before
    assert [one["namespace"] for one in json.loads(running.get(15000, "/status"))["workloads"]] == ["test"]
    (running.workloads / "w1.yaml").write_text("workload: w1\n")
    running.configure(node="host1", workers=2)
    running.reload()
    assert f"{running.workloads}/w1.yaml:1: workload: must be <namespace>/<name>" in running.log
    assert running.workers() == before
