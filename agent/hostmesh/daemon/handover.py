"""What outlives the agent's program when the process replaces it: listeners, workers, certificates (execve(2))."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field

from hostmesh.daemon.messages import credentials_update, read_credentials
from hostmesh.model.identity import Credentials
from hostmesh.wire.proto import handover_pb2 as kept
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.held import XdsUpdate

VARIABLE = "HOSTMESH_HANDOVER"
"""Names the descriptor of the memory file in the environment of the next program."""


@dataclass(frozen=True, slots=True)
class Handover:
    """All of it. `synced`: the control plane had answered, so that what the disk holds is the mesh as it is.

    `addresses` and `authorizations` are the names of what workers know of the mesh; `from_file` says who told them.
    """

    listeners: Mapping[str, socket.socket] = field(default_factory=dict)
    workers: tuple[kept.KeptWorker, ...] = ()
    retired: pb.Report = field(default_factory=pb.Report)
    credentials: tuple[Credentials, ...] = ()
    worker_restarts: int = 0
    synced: bool = False
    namespaces: Mapping[str, int] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    authorizations: tuple[str, ...] = ()
    from_file: bool = False

    def gone(self, known: XdsUpdate) -> XdsUpdate:
        """What workers know and is not there any more: whoever tells everything there is does not say what has gone."""
        return XdsUpdate(
            removed_addresses=tuple(name for name in self.addresses if name not in known.addresses),
            removed_authorizations=tuple(name for name in self.authorizations if name not in known.authorizations),
        )


def leave(handover: Handover, environment: Mapping[str, str]) -> dict[str, str]:
    """Make everything inheritable; the environment in which the next program finds it.

    The certificates go through memory that has no name. systemd's own descriptors are not announced again: their
    numbers mean something else by now.
    """
    message = kept.Handover(
        listeners=[kept.KeptListener(name=name, descriptor=s.fileno()) for name, s in handover.listeners.items()],
        workers=handover.workers,
        retired=handover.retired,
        credentials=credentials_update(handover.credentials).credentials.credentials,
        worker_restarts=handover.worker_restarts,
        synced=handover.synced,
        namespaces=[kept.KeptListener(name=name, descriptor=fd) for name, fd in handover.namespaces.items()],
        addresses=handover.addresses,
        authorizations=handover.authorizations,
        from_file=handover.from_file,
    )
    memory = os.memfd_create("hostmesh-handover", 0)
    with os.fdopen(memory, "wb", closefd=False) as file:
        file.write(message.SerializeToString())
    for descriptor in _descriptors(message):
        os.set_inheritable(descriptor, True)
    fresh = {name: value for name, value in environment.items() if not name.startswith("LISTEN_")}
    return {**fresh, VARIABLE: str(memory)}


def take_back(environment: Mapping[str, str]) -> None:
    """The program could not be replaced: undo `leave`."""
    memory = int(environment[VARIABLE])
    for descriptor in _descriptors(_read(memory)):
        os.set_inheritable(descriptor, False)
    os.close(memory)


def receive(environment: MutableMapping[str, str]) -> Handover:
    """What the program before this one left; nothing in a process that has just been started."""
    if VARIABLE not in environment:
        return Handover()
    memory = int(environment.pop(VARIABLE))
    message = _read(memory)
    os.close(memory)
    for descriptor in _descriptors(message):
        os.set_inheritable(descriptor, False)
    return Handover(
        {one.name: socket.socket(fileno=one.descriptor) for one in message.listeners},
        tuple(message.workers),
        message.retired,
        tuple(read_credentials(one) for one in message.credentials),
        message.worker_restarts,
        message.synced,
        {one.name: one.descriptor for one in message.namespaces},
        tuple(message.addresses),
        tuple(message.authorizations),
        message.from_file,
    )


def _read(memory: int) -> kept.Handover:
    return kept.Handover.FromString(os.pread(memory, os.fstat(memory).st_size, 0))


def _descriptors(message: kept.Handover) -> Iterable[int]:
    yield from (one.descriptor for one in (*message.listeners, *message.namespaces))
    yield from (one.control for one in message.workers if one.control)
