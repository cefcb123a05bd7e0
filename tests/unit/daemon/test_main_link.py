"""What main says reaches the proxy, and a worker's last words reach main."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.support.pki import ALICE, Authority

from hostmesh.daemon.frames import MAX_FROM_WORKER, FrameReader, frame
from hostmesh.daemon.main_link import LOG_BATCH, MAX_USED, MAX_WAITING, MainLink
from hostmesh.daemon.mesh import messages
from hostmesh.daemon.messages import trust_update
from hostmesh.model.address import NamespacedHostname
from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.service import Service
from hostmesh.model.trust import TrustBundle
from hostmesh.model.workload import HealthStatus, Workload
from hostmesh.state.store import MeshState
from hostmesh.telemetry.metrics import Metrics
from hostmesh.telemetry.records import LogRecord
from hostmesh.transport.loop import Loop
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.codec import encode_authorization, encode_service, encode_workload
from hostmesh.xds.held import XdsUpdate


@dataclass
class Proxy:
    """Stands for the proxy server."""

    bundles: list[TrustBundle] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    drained: list[Callable[[], None]] = field(default_factory=list)
    known: Callable[[], int] = lambda: 0
    judged: list[int] = field(default_factory=list)

    def drain(self, deadline: float, drained: Callable[[], None]) -> None:
        del deadline
        self.drained.append(drained)

    def connections(self) -> tuple[()]:
        return ()

    def state_changed(self) -> None:
        self.judged.append(self.known())

    def addresses_known(self, learned: Iterable[str], refused: Mapping[str, str]) -> None:
        """Nobody waits."""

    def set_trust(self, bundle: TrustBundle) -> None:
        self.bundles.append(bundle)


def test_a_bundle_is_applied_as_a_whole() -> None:
    """Each replaces the one before."""
    loop, proxy = Loop(), Proxy()
    main, worker = socket.socketpair()
    with main, worker:
        link = MainLink(worker, loop, MeshState())
        server: Any = proxy
        link.begin(server, [], 3600.0)
        first = TrustBundle("cluster.local", Authority().pem, frozenset({(b"issuer", 7)}), frozenset({ALICE}))
        second = TrustBundle("cluster.local", Authority().pem)
        for bundle in (first, second):
            main.sendall(frame(trust_update(bundle)))
        while len(proxy.bundles) < 2:
            loop.turn(1.0)
    assert proxy.bundles == [first, second]
    loop.close()


def test_an_ending_worker_tells_everything_and_lets_main_finish_its_sentence() -> None:
    """The last connections' records come too, and nothing is cut by what main was sending meanwhile."""
    loop, proxy = Loop(), Proxy()
    main, worker = socket.socketpair()
    heard: list[pb.FromWorker] = []

    def listen() -> None:
        reader = FrameReader(MAX_FROM_WORKER)
        while data := main.recv(1 << 16):
            heard.extend(pb.FromWorker.FromString(body) for body in reader.feed(data))
        main.sendall(frame(pb.ToWorker(report=pb.ReportRequest(id=2))))
        main.close()

    with worker:
        link = MainLink(worker, loop, MeshState())
        server: Any = proxy
        link.begin(server, [], 3600.0)
        main.sendall(frame(pb.ToWorker(drain=pb.Drain(deadline_seconds=1))))
        while not proxy.drained:
            loop.turn(1.0)
        link.log([LogRecord("info", "access", "connection complete", ())])
        main.sendall(frame(pb.ToWorker(report=pb.ReportRequest(id=1))) * 3)
        listener = threading.Thread(target=listen)
        listener.start()
        proxy.drained[0]()
        for _ in range(3):
            loop.turn(0.0)
        listener.join()
    assert [message.WhichOneof("message") for message in heard][-2:] == ["logs", "report"]
    assert json.loads(heard[-2].logs.records) == [["info", "access", "connection complete", []]]
    loop.close()


def test_records_that_peers_have_made_long_come_in_several_messages() -> None:
    """Main kills a worker whose message is too large: part of a record is what a peer says about itself."""
    loop, proxy = Loop(), Proxy()
    main, worker = socket.socketpair()
    records = [LogRecord("info", "access", str(number), (("src.workload", "x" * 60_000),)) for number in range(300)]
    heard: list[str] = []
    reader = FrameReader(MAX_FROM_WORKER)
    with main, worker:
        link = MainLink(worker, loop, MeshState())
        server: Any = proxy
        link.begin(server, [], 3600.0)
        link.log(records)
        link.log(records)
        while len(heard) < 2 * len(records):
            loop.turn(0.0)
            for body in reader.feed(main.recv(1 << 20)):
                message = pb.FromWorker.FromString(body)
                if message.WhichOneof("message") == "logs":
                    heard += [one[2] for one in json.loads(message.logs.records)]
    assert heard == 2 * [str(number) for number in range(300)]
    loop.close()


def test_records_that_main_does_not_read_are_dropped_and_counted() -> None:
    """What waits for a main that hangs is bounded, and the first record after it says how many are missing."""
    loop, proxy = Loop(), Proxy()
    main, worker = socket.socketpair()
    batch = [LogRecord("info", "access", "kept", (("src.workload", "x" * 4000),))] * LOG_BATCH
    logged = 10 * MAX_WAITING // (4000 * LOG_BATCH) * LOG_BATCH
    heard: list[list[Any]] = []
    reader = FrameReader(MAX_FROM_WORKER)
    with main, worker:
        link = MainLink(worker, loop, MeshState())
        server: Any = proxy
        link.begin(server, [], 3600.0)
        for _ in range(logged // LOG_BATCH):
            link.log(batch)
            loop.turn(0.0)
        while not heard or heard[-1][2] != "the last":
            link.log([LogRecord("info", "access", "the last", ())])
            loop.turn(0.01)
            with suppress(BlockingIOError):
                for body in reader.feed(main.recv(1 << 20, socket.MSG_DONTWAIT)):
                    message = pb.FromWorker.FromString(body)
                    if message.WhichOneof("message") == "logs":
                        heard += json.loads(message.logs.records)
    kept = sum(record[2] == "kept" for record in heard)
    (dropped,) = (record[3] for record in heard if record[2].startswith("log records dropped"))
    assert 0 < kept < logged / 4
    assert dropped[0][0] == "records"
    assert dropped[0][1] >= logged - kept
    loop.close()


def test_plain_records_are_lines_that_main_only_stamps() -> None:
    """What is no text that could be sent is escaped, and a line break in a record does not begin another."""
    loop, proxy = Loop(), Proxy()
    main, worker = socket.socketpair()
    heard: list[bytes] = []
    reader = FrameReader(MAX_FROM_WORKER)
    with main, worker:
        link = MainLink(worker, loop, MeshState(), plain_logs=True)
        server: Any = proxy
        link.begin(server, [], 3600.0)
        link.log([LogRecord("info", "access", "a\nforged", (("k", "v"),)), LogRecord("warn", "proxy", "b\udcff")])
        while not heard:
            loop.turn(0.01)
            with suppress(BlockingIOError):
                said = map(pb.FromWorker.FromString, reader.feed(main.recv(1 << 20, socket.MSG_DONTWAIT)))
                heard += [message.logs.records for message in said if message.WhichOneof("message") == "logs"]
    assert heard == [b'info\taccess\ta forged\tk="v"\nwarn\tproxy\tb\\udcff']
    loop.close()


WORKLOADS = 2000


@pytest.mark.parametrize(("policies", "judged"), [(0, [WORKLOADS]), (1, [250, WORKLOADS])])
def test_a_big_push_is_applied_between_the_bytes_and_judged_once(policies: int, judged: list[int]) -> None:
    """Traffic gets its turn many times before all is applied; what policies forbid does not wait for the rest."""
    state, loop = MeshState(), Loop()
    proxy = Proxy(known=lambda: len(state.workloads()))
    main, worker = socket.socketpair()
    app, peer = socket.socketpair()
    answers: list[int] = []

    def answer(_: int) -> None:
        answers.append(len(state.workloads()))
        app.send(app.recv(100))

    with main, worker, app, peer:
        loop.register(app.fileno(), answer)
        server: Any = proxy
        MainLink(worker, loop, state).begin(server, [], 3600.0)
        writer = threading.Thread(target=lambda: [main.sendall(frame(message)) for message in push(policies)])
        writer.start()
        while len(state.workloads()) < WORKLOADS or len(proxy.judged) < len(judged):
            peer.send(b"ping")
            loop.turn(1.0)
            assert peer.recv(100) == b"ping"
        writer.join()
    assert proxy.judged == judged
    assert len(set(answers)) > 10
    loop.close()


@pytest.mark.parametrize("order", [1, -1])
def test_a_push_brings_a_service_and_its_endpoints_in_any_order(order: int) -> None:
    """Those that are well; one that goes with the next push is no endpoint any more."""
    api = Service("api", "ns", "api.lab")
    well = Workload("well", "well", "ns", services={api.namespaced_hostname: {80: 8080}})
    sick = replace(well, uid="sick", status=HealthStatus.UNHEALTHY)
    pushed = {one.uid: encode_workload(one).SerializeToString() for one in (well, sick)}
    pushed = dict([(api.key, encode_service(api).SerializeToString()), *pushed.items()][::order])
    state, loop = MeshState(), Loop()

    class Recorder(Proxy):
        """Notes the endpoints at each change."""

        def state_changed(self) -> None:
            seen.append([one.uid for one in state.endpoints(api)])

    seen: list[list[str]] = []
    main, worker = socket.socketpair()
    with main, worker:
        server: Any = Recorder()
        MainLink(worker, loop, state).begin(server, [], 3600.0)
        for update in (XdsUpdate(addresses=pushed), XdsUpdate(removed_addresses=("well",))):
            for message in messages(update):
                main.sendall(frame(message))
        while len(seen) < 2:
            loop.turn(1.0)
    assert seen == [["well"], []]
    loop.close()


def push(policies: int) -> list[pb.ToWorker]:
    """As main sends it."""
    workloads = [Workload(f"u{n}", f"w{n}", "default") for n in range(WORKLOADS)]
    denials = [Authorization(f"p{n}", "default", PolicyScope.NAMESPACE, Action.DENY, ()) for n in range(policies)]
    return messages(
        XdsUpdate(
            {one.uid: encode_workload(one).SerializeToString() for one in workloads},
            authorizations={one.key: encode_authorization(one).SerializeToString() for one in denials},
        )
    )


def test_a_name_is_known_when_all_is_there_that_it_means_and_not_longer() -> None:
    """However many pieces a push comes in; what is forgotten is so before its resources go."""
    many = {str(n): encode_workload(Workload(str(n), str(n), "ns")).SerializeToString() for n in range(600)}
    loop, state = Loop(), MeshState()
    place = NamespacedHostname("ns", "web")

    class Recorder(Proxy):
        """Notes what was known when."""

        def addresses_known(self, learned: Iterable[str], refused: Mapping[str, str]) -> None:
            told.append((list(learned), dict(refused), len(state.workloads()), state.knows(place)))

    told: list[tuple[list[str], dict[str, str], int, bool]] = []
    main, worker = socket.socketpair()
    with main, worker:
        link = MainLink(worker, loop, state)
        server: Any = Recorder()
        link.begin(server, [], 3600.0)
        updates = [
            XdsUpdate(addresses=many, on_demand=True, learned=("ns/web",)),
            XdsUpdate(removed_addresses=("0",), on_demand=True, forgotten=("ns/web",), refused={"x": "no"}),
        ]
        threading.Thread(target=lambda: [main.sendall(frame(m)) for u in updates for m in messages(u)]).start()
        while len(told) < 4:
            loop.turn(1.0)
    assert [one for one in told if one[0] or one[1]] == [(["ns/web"], {}, 600, True), ([], {"x": "no"}, 599, False)]
    assert [known for *_, known in told] == [False, False, True, False]
    loop.close()


def test_what_a_worker_asks_for_and_uses_reaches_main() -> None:
    """Many names in several messages."""
    loop = Loop()
    main, worker = socket.socketpair()
    with main, worker:
        link = MainLink(worker, loop, MeshState())
        server: Any = Proxy()
        link.begin(server, [], 3600.0)
        link.want_address("/10.0.0.1")
        link.used_addresses([f"/{number}" for number in range(MAX_USED + 1)])
        loop.turn(0)
        loop.turn(0)
        frames, heard = FrameReader(MAX_FROM_WORKER), []
        while len(heard) < 4:
            heard += [pb.FromWorker.FromString(body) for body in frames.feed(main.recv(1 << 20))]
            loop.turn(0)
    asked = [one.want_address.name for one in heard if one.HasField("want_address")]
    used = [len(one.used_addresses.names) for one in heard if one.HasField("used_addresses")]
    assert (asked, used) == (["/10.0.0.1"], [MAX_USED, 1])
    loop.close()
