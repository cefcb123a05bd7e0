"""A host under test and its peer, two or three units of the host, and the capture of them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.netns import Cgroup, Namespace, linked, listen, make_socket, slice_of_cgroups
from tests.support.patience import PATIENCE

from hostmesh.enrolment.subjects import with_ports
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.listeners import listeners
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect import choose
from hostmesh.redirect.apply import Redirector
from hostmesh.redirect.choose import Backend
from hostmesh.redirect.iptables_apply import IptablesRedirector
from hostmesh.redirect.plan import Ruleset, compile_intent, plan
from hostmesh.redirect.subjects import CapturedUnit, Scope

WHOLE = Scope()


@dataclass
class Lab:
    """`a` and `b` are captured units (numbers 1 and 2), `deep` a template instance (3), `other` is no workload."""

    peer: Namespace
    host: Namespace
    cgroups: CgroupRoot
    a: Cgroup
    b: Cgroup
    deep: Cgroup
    other: Cgroup
    redirector: Redirector | IptablesRedirector
    runtime: Path
    stack: ExitStack = field(default_factory=ExitStack)
    applied: Ruleset | None = None

    @property
    def units(self) -> tuple[CapturedUnit, ...]:
        return tuple(captured(cgroup, n) for n, cgroup in enumerate((self.a, self.b, self.deep), 1))

    @property
    def ruleset(self) -> Ruleset:
        return plan(self.units, cgroup_prefix=self.cgroups.nft_prefix)

    def apply(self, ruleset: Ruleset | None = None) -> tuple[str, ...]:
        self.applied = ruleset or self.ruleset
        return self.look()

    def look(self) -> tuple[str, ...]:
        """What the agent does every few seconds: where ports must be known, it sees who listens."""
        if self.applied is None:
            return ()
        with self.host.entered():
            if isinstance(self.redirector, IptablesRedirector):
                intent = self.applied.intent
                ids = {unit.cgroup: self.cgroups.id(unit.cgroup) for unit in intent.units}
                running = {path: found for path, found in ids.items() if found is not None}
                users, listening = with_ports(intent.users, intent.units, running, listeners())
                self.applied = compile_intent(replace(intent, users=users, listening=listening))
            return self.redirector.apply(self.applied)

    def verify(self) -> tuple[str, ...]:
        with self.host.entered():
            return self.redirector.verify()

    def listen(self, where: Namespace, address: str, port: int, cgroup: Cgroup | None = None) -> socket.socket:
        opened = self.stack.enter_context(listen(where, address, port, cgroup))
        if where == self.host and isinstance(self.redirector, IptablesRedirector):
            self.look()
        return opened

    def socket(self, where: Namespace, cgroup: Cgroup | None = None, like: str = "") -> socket.socket:
        family = socket.AF_INET6 if ":" in like else socket.AF_INET
        return self.stack.enter_context(make_socket(where, cgroup, family))

    def connect(
        self, where: Namespace, address: tuple[str, int], cgroup: Cgroup | None = None, mark: int = 0
    ) -> socket.socket:
        sock = self.socket(where, cgroup, address[0])
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, 36, mark)
        sock.connect(address)
        return sock

    def accept(self, listener: socket.socket) -> socket.socket:
        accepted = self.stack.enter_context(listener.accept()[0])
        accepted.settimeout(PATIENCE)
        return accepted


def workload(number: int, unit: str = "") -> LocalWorkload:
    """Workload prod/w<number>."""
    name = f"w{number}"
    return LocalWorkload(number, name, "prod", Identity("cluster.local", "prod", name), unit)


def captured(cgroup: Cgroup, number: int, scope: Scope = WHOLE) -> CapturedUnit:
    """The cgroup's unit as that workload."""
    return CapturedUnit(workload(number, cgroup.directory.name), cgroup.path, scope)


@pytest.fixture
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The host is not captured yet: a test calls `apply`. Its parameter is the backend, nft where there is none."""
    with made_lab(tmp_path, getattr(request, "param", "nft")) as made:
        yield made


@contextmanager
def made_lab(runtime: Path, backend: str = "nft") -> Iterator[Lab]:
    """What the fixture is, for fixtures of longer life."""
    with ExitStack() as stack:
        peer, host = stack.enter_context(linked("peer", "host"))
        root, top = stack.enter_context(slice_of_cgroups())
        names = ("a.service", "b.service", "app.slice/app@1.service", "other.service")
        a, b, deep, other = (Cgroup(root, f"{top}/{name}") for name in names)
        for cgroup in (a, b, deep, other):
            cgroup.start()
        redirector = choose.redirector(Backend(backend), root, runtime)
        stack.callback(redirector.rest)
        made = Lab(peer, host, root, a, b, deep, other, redirector, runtime)
        stack.enter_context(made.stack)
        yield made
