"""No acknowledged write is lost while members of etcd are cut off: the leader, a majority, our own connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from tests.support.etcd import Cluster, Member, etcd_cluster
from tests.support.netns import Namespace, namespace

from hostmesh.control.etcd.records import EtcdRecords
from hostmesh.control.records import StoreUnavailable

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


class Network:
    """A switch with three members and a control plane's host; each can be cut off."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.switch = stack.enter_context(namespace("switch"))
        self.switch.ip("link add bridge type bridge")
        self.switch.ip("link set bridge up")
        self.hosts = [self._host(stack, number) for number in range(4)]
        self.client = self.hosts[3]
        places = [(f"10.88.0.{number + 1}", tuple(host.command())) for number, host in enumerate(self.hosts[:3])]
        self.cluster: Cluster = stack.enter_context(etcd_cluster(directory, places=places))
        self.records = EtcdRecords(self.cluster.endpoints, prefix="/test/", writer="w", lease_ttl=5.0)
        with self.client.entered():  # the thread that speaks to etcd stays here
            self.records.start()
        stack.callback(self.records.close)

    def _host(self, stack: ExitStack, number: int) -> Namespace:
        host = stack.enter_context(namespace("etcd"))
        host.ip(f"link add eth0 type veth peer name port{number} netns {self.switch.name}")
        self.switch.ip(f"link set port{number} master bridge up")
        host.ip(f"addr add 10.88.0.{number + 1}/24 dev eth0")
        host.ip("link set eth0 up")
        return host

    def cut(self, *numbers: int) -> None:
        for number in numbers:
            self.switch.ip(f"link set port{number} down")

    def heal(self) -> None:
        for number in range(4):
            self.switch.ip(f"link set port{number} up")

    def leader(self) -> int:
        """By what the members say that can be asked; in an election there is none."""
        found: list[int] = []

        def look() -> bool:
            for number, member in enumerate(self.cluster.members):
                said = self.cluster.ctl("endpoint", "status", "-w", "json", via=member, check=False).stdout
                status = json.loads(said)[0]["Status"] if said.strip() else {}
                if status and status.get("leader") == status["header"]["member_id"]:
                    found.append(number)
            return bool(found)

        eventually(look)
        return found[0]

    def has(self, member: Member) -> set[str]:
        """The writes that a member knows, if it can be asked."""
        said = self.cluster.ctl("get", "--prefix", "/test/w/", "--keys-only", via=member, check=False).stdout
        return set(said.split())


class Writer:
    """Writes one record after the other, and knows which were acknowledged."""

    def __init__(self, records: EtcdRecords) -> None:
        self._records = records
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.acknowledged: set[str] = set()
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        number = 0
        while not self._stopping.wait(0.002):
            number += 1
            try:
                self._records.commit({f"w/{number:06}": str(number)})
                self.acknowledged.add(f"/test/w/{number:06}")
            except StoreUnavailable:
                self.refused += 1


def eventually(holds: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(stack, tmp_path)


def test_acknowledged_writes_survive_partitions(network: Network) -> None:
    """Of the leader: writing goes on. Of a majority: nothing is acknowledged. Then all members know all of it."""
    with Writer(network.records) as writer:

        def goes_on(many: int) -> None:
            before = len(writer.acknowledged)
            eventually(lambda: len(writer.acknowledged) >= before + many)

        goes_on(20)
        network.cut(network.leader())
        goes_on(20)
        network.heal()
        goes_on(20)

        first = network.leader()
        network.cut(first, (first + 1) % 3)
        refused = writer.refused  # the next to be refused, if not a later one, has begun after the cut
        eventually(lambda: writer.refused > refused)
        acknowledged = len(writer.acknowledged)
        eventually(lambda: writer.refused > refused + 1)
        assert len(writer.acknowledged) == acknowledged
        assert network.records.problem
        network.heal()
        goes_on(20)

        network.cut(3)
        refused = writer.refused
        eventually(lambda: writer.refused > refused)
        network.heal()
        goes_on(20)
    for member in network.cluster.members:
        eventually(lambda member=member: writer.acknowledged <= network.has(member))
    eventually(lambda: not network.records.problem)
    known = {f"/test/{key}" for key in network.records.under("w/")}
    assert writer.acknowledged <= known


def test_a_watch_that_was_cut_off_misses_nothing(network: Network) -> None:
    """It goes on where it was, and after a compaction reads everything anew; removals included."""
    records, other = network.records, network.cluster.members[0]
    records.commit({"k/kept": "1", "k/gone": "1", "k/changed": "1"})
    network.cut(3)
    network.cluster.insist("del", "/test/k/gone", via=other)
    network.cluster.insist("put", "/test/k/changed", "2", via=other)
    status = network.cluster.insist("put", "/test/k/new", "3", "-w", "json", via=other)
    network.cluster.ctl("compact", str(json.loads(status)["header"]["revision"]), via=other)
    network.heal()
    wanted = {"k/kept": "1", "k/changed": "2", "k/new": "3"}
    eventually(lambda: {key: record.value for key, record in records.under("k/").items()} == wanted)
