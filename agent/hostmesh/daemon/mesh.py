"""What main knows of the mesh: the state for its own questions, and the raw resources for workers that start later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hostmesh.daemon.messages import state_update
from hostmesh.model.identity import Identity
from hostmesh.model.workload import Workload
from hostmesh.state.store import MeshState
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.codec import decode_address, decode_authorization

_CHUNK = 2000
"""Resources in one message, so that a worker applies a big push between connections and not in one go."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A workload of this host as /etc/hostmesh/workloads.d names it."""

    name: str
    namespace: str
    service_account: str


class Mesh:
    """Applies what xDS delivers (already validated) and hands it on."""

    def __init__(self, node: str, trust_domain: str) -> None:
        self.state = MeshState()
        self._node = node
        self._trust_domain = trust_domain
        self._addresses: dict[str, bytes] = {}
        self._authorizations: dict[str, bytes] = {}

    def apply(
        self,
        addresses: Mapping[str, bytes],
        removed_addresses: Iterable[str],
        authorizations: Mapping[str, bytes],
        removed_authorizations: Iterable[str],
    ) -> list[pb.ToWorker]:
        """Take one update; returns what every worker must be told.

        Raises:
            Rejected: a resource that xDS should have refused; nothing after it is applied.
        """
        for name, encoded in addresses.items():
            self._addresses[name] = encoded
            address = decode_address(encoded)
            if isinstance(address, Workload):
                self.state.upsert_workload(address)
            else:
                self.state.upsert_service(address)
        gone = list(removed_addresses)
        for name in gone:
            self._addresses.pop(name, None)
            self.state.remove_address(name)
        for name, encoded in authorizations.items():
            self._authorizations[name] = encoded
            self.state.upsert_authorization(decode_authorization(encoded))
        gone_policies = list(removed_authorizations)
        for name in gone_policies:
            self._authorizations.pop(name, None)
            self.state.remove_authorization(name)
        return _messages(addresses.values(), gone, authorizations.values(), gone_policies)

    def snapshot(self) -> list[pb.ToWorker]:
        """Everything, for a worker that starts now. Policies come first: nobody is served before they are known."""
        return _messages(self._addresses.values(), (), self._authorizations.values(), ())

    def identity(self, registration: Registration) -> Identity:
        """Who a local workload is: as the control plane registered it, else as the file says."""
        known = self.state.local_workload(
            registration.name, registration.namespace, registration.service_account, self._node
        )
        if known is not None:
            return known.identity
        return Identity(self._trust_domain, registration.namespace, registration.service_account)

    def registered(self, registration: Registration) -> bool:
        """Whether the control plane knows the workload as one of this node's."""
        return (
            self.state.local_workload(
                registration.name, registration.namespace, registration.service_account, self._node
            )
            is not None
        )


def _messages(
    addresses: Iterable[bytes],
    removed_addresses: Iterable[str],
    authorizations: Iterable[bytes],
    removed_authorizations: Iterable[str],
) -> list[pb.ToWorker]:
    encoded = list(addresses)
    first = state_update(encoded[:_CHUNK], removed_addresses, authorizations, removed_authorizations)
    return [first, *(state_update(encoded[i : i + _CHUNK]) for i in range(_CHUNK, len(encoded), _CHUNK))]
