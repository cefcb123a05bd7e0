"""LocalWorkloads: the captured workloads of this host joined with what the control plane says about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hostmesh.model.address import IPAddress
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload, is_server_name, server_name
from hostmesh.model.workload import Workload
from hostmesh.proxy.waiting import WaitingRoom
from hostmesh.state.store import MeshState
from hostmesh.transport.loop import Loop


@dataclass(frozen=True, slots=True)
class Local:
    """A captured workload whose description has arrived."""

    captured: LocalWorkload
    workload: Workload

    @property
    def identity(self) -> Identity:
        """Whose certificate it uses."""
        return self.workload.identity


@dataclass(frozen=True, slots=True)
class Shared:
    """Several workloads have the address, and the peer has not said whom it means: each of its requests will."""

    ip: IPAddress


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a TLS client has said about whom it wants: see `for_server`."""

    name: str | None
    ip: IPAddress
    namespace: int
    shared: bool


@dataclass(frozen=True, slots=True)
class _Index:
    generation: int
    by_number: dict[int, Local]
    by_server_name: dict[str, Local]
    by_ip: dict[IPAddress, list[Local]]


class LocalWorkloads:
    """Look-ups by mark number, by TLS server name and by address; connections may wait for an answer.

    Rebuilt at the first look-up after a change: there are few workloads on one host.
    """

    def __init__(self, loop: Loop, state: MeshState, node: str, wait: float) -> None:
        self._state = state
        self._node = node
        self._captured: Sequence[LocalWorkload] = ()
        self.host_ports: frozenset[int] = frozenset()
        self._index = _Index(-1, {}, {}, {})
        self._waiting: WaitingRoom[int, Local] = WaitingRoom(loop, wait)
        self._asking: WaitingRoom[_Asked, Local | Shared] = WaitingRoom(loop, wait)

    def set(self, captured: Sequence[LocalWorkload], host_ports: Iterable[int] = ()) -> bool:
        """Replace the list of captured workloads, and of the host's own ports; whether the former has changed."""
        self.host_ports = frozenset(host_ports)
        if self._captured == tuple(captured):
            return False
        self._captured = tuple(captured)
        self._index = _Index(-1, {}, {}, {})
        self.changed()
        return True

    def changed(self) -> None:
        """Let go the connections whose workload is known now."""
        for number in self._waiting.awaited():
            local = self.by_number(number)
            if local is not None:
                self._waiting.answer(number, local)
        for asked in self._asking.awaited():
            found = self._find(asked)
            if not self._may_come(asked, found):
                self._answer(asked, found)

    def is_captured(self, captured: LocalWorkload) -> bool:
        """Whether exactly this workload is still captured."""
        return captured in self._captured

    def by_number(self, number: int) -> Local | None:
        """The workload that a mark means."""
        return self._fresh().by_number.get(number)

    def wait_for(self, number: int, then: Callable[[Local | None, str], None]) -> None:
        """Answer once the workload is known, or with None and the reason when it did not come in time."""
        self._waiting.enter(number, self._unknown(number), then)

    def for_server(
        self, name: str | None, ip: IPAddress, namespace: int = 0, *, shared: bool = False
    ) -> Local | Shared | None:
        """Who is asked for by a TLS client: by server name, else the only workload that owns the address.

        Who comes through a gateway of its network knows the service only, and asks for that.
        In the namespace of a workload, by whose number it is known, nobody else can be meant.
        Of several owners all are meant where they may be `shared`, else the default one.
        """
        index = self._fresh()
        if namespace:
            return index.by_number.get(namespace)
        if name is not None and (named := index.by_server_name.get(name)) is not None:
            return named
        owners = index.by_ip.get(ip, ())
        if len(owners) == 1:
            return owners[0]
        if owners and shared:
            return Shared(ip)
        return next((local for local in owners if local.captured.default), None)

    def wait_for_server(
        self,
        name: str | None,
        ip: IPAddress,
        namespace: int,
        then: Callable[[Local | Shared | None], None],
        *,
        shared: bool,
    ) -> None:
        """Answer as `for_server` does, but wait while whoever is meant may be a workload not described yet.

        Clients may hear of a new workload before its own host does.
        """
        asked = _Asked(name, ip, namespace, shared)
        found = self._find(asked)
        if self._may_come(asked, found):
            self._asking.enter(asked, "", lambda value, _: then(value or self._find(asked)))
        else:
            then(found)

    def at(self, ip: IPAddress) -> Sequence[Local]:
        """Who has the address."""
        return self._fresh().by_ip.get(ip, ())

    def _find(self, asked: _Asked) -> Local | Shared | None:
        return self.for_server(asked.name, asked.ip, asked.namespace, shared=asked.shared)

    def _may_come(self, asked: _Asked, found: Local | Shared | None) -> bool:
        index = self._fresh()
        if len(index.by_number) == len(self._captured):
            return False
        if asked.namespace or asked.name is None or not is_server_name(asked.name):
            return found is None
        return asked.name not in index.by_server_name

    def _answer(self, asked: _Asked, found: Local | Shared | None) -> None:
        if found is None:
            self._asking.refuse(asked, "")
        else:
            self._asking.answer(asked, found)

    def _unknown(self, number: int) -> str:
        for local in self._captured:
            if local.number == number:
                identity = local.identity
                who = f"{identity.service_account}.{identity.namespace} ({local.name})"
                return f"failed to fetch information about local workload: {who}"
        return f"failed to fetch information about local workload: no captured workload has the number {number}"

    def _fresh(self) -> _Index:
        index = self._index
        if index.generation != self._state.generation:
            index = self._index = self._build()
        return index

    def _build(self) -> _Index:
        index = _Index(self._state.generation, {}, {}, {})
        for captured in self._captured:
            identity = captured.identity
            workload = self._state.local_workload(
                captured.name, identity.namespace, identity.service_account, self._node
            )
            if workload is None:
                continue
            local = Local(captured, workload)
            index.by_number[captured.number] = local
            if captured.in_namespace:
                continue  # not to be reached on the host's own addresses
            index.by_server_name[server_name(workload.uid)] = local
            for service in workload.services:
                index.by_server_name.setdefault(server_name(str(service)), local)
            for ip in workload.addresses:
                index.by_ip.setdefault(ip, []).append(local)
        return index
