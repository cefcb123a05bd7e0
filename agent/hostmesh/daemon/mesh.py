"""What main knows of the mesh, and how it is handed to the workers."""

from __future__ import annotations

from hostmesh.daemon.messages import state_update
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.workload import Protocol, Workload
from hostmesh.state.store import MeshState
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.codec import decode_address, decode_authorization
from hostmesh.xds.held import XdsUpdate

_CHUNK = 250
"""Resources in one message: reading it must not hold up a worker's traffic for long."""


class Mesh:
    """Main's own copy of the state, for its questions and the config dump."""

    def __init__(self, node: str) -> None:
        self.state = MeshState()
        self._node = node

    def apply(self, update: XdsUpdate) -> None:
        """Take what xDS delivered; its codec has accepted every resource."""
        for encoded in update.addresses.values():
            address = decode_address(encoded)
            if isinstance(address, Workload):
                self.state.upsert_workload(address)
            else:
                self.state.upsert_service(address)
        for name in update.removed_addresses:
            self.state.remove_address(name)
        for encoded in update.authorizations.values():
            self.state.upsert_authorization(decode_authorization(encoded))
        for name in update.removed_authorizations:
            self.state.remove_authorization(name)
        if update.on_demand:
            self.state.follow_on_demand()
        for name in update.forgotten:
            self.state.forget(name)
        for name in update.learned:
            self.state.learn(name)

    def registered(self, identity: Identity, name: str) -> Workload | None:
        """The workload of this node as the control plane registered it; None if it did not."""
        return self.state.local_workload(name, identity.namespace, identity.service_account, self._node)

    def knows(self, workload: LocalWorkload) -> bool:
        """Whether the control plane has registered it on this node."""
        registered = self.registered(workload.identity, workload.name)
        return registered is not None and registered.node == self._node

    def opted_out(self, workload: LocalWorkload) -> bool:
        """Whether the registration on this node, or its namespace, says `istio.io/dataplane-mode: none`.

        The control plane makes TCP of that. One that nobody has registered here has not opted out.
        """
        registered = self.registered(workload.identity, workload.name)
        return registered is not None and registered.node == self._node and registered.protocol is Protocol.TCP


def messages(update: XdsUpdate) -> list[pb.ToWorker]:
    """The update as workers take it. Policies come first: nobody is judged before they are known."""
    encoded = list(update.addresses.values())
    size = len(encoded)
    first = state_update(
        encoded[:_CHUNK],
        update.removed_addresses,
        update.authorizations.values(),
        update.removed_authorizations,
        more=size > _CHUNK,
    )
    rest = (state_update(encoded[i : i + _CHUNK], more=i + _CHUNK < size) for i in range(_CHUNK, size, _CHUNK))
    found = [first, *rest]
    first.state.on_demand = update.on_demand
    first.state.forgotten.extend(update.forgotten)  # before what they stood for goes
    last = found[-1].state
    last.learned.extend(update.learned)  # once all is there that they mean
    last.refused.update(update.refused)
    return found
