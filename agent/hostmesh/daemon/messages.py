"""Between the model's values and worker.proto's messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.wire.proto import worker_pb2 as pb


def credentials_update(
    fresh: Iterable[Credentials] = (), forgotten: Iterable[Identity] = (), failed: Mapping[Identity, str] | None = None
) -> pb.ToWorker:
    """Certificates that came, went, or could not be had."""
    return pb.ToWorker(
        credentials=pb.CredentialsUpdate(
            credentials=[
                pb.Credentials(
                    identity=str(c.identity),
                    key_pem=c.key_pem,
                    chain_pem=c.chain_pem,
                    roots_pem=c.roots_pem,
                    not_before=c.not_before,
                    not_after=c.not_after,
                    serial=str(c.serial),
                )
                for c in fresh
            ],
            forgotten=[str(identity) for identity in forgotten],
            failed={str(identity): reason for identity, reason in (failed or {}).items()},
        )
    )


def read_credentials(message: pb.Credentials) -> Credentials:
    """Inverse of what `credentials_update` wrote for one certificate."""
    return Credentials(
        identity=Identity.parse(message.identity),
        key_pem=message.key_pem,
        chain_pem=message.chain_pem,
        roots_pem=message.roots_pem,
        not_before=message.not_before,
        not_after=message.not_after,
        serial=int(message.serial),
    )


def local_workloads_update(workloads: Iterable[LocalWorkload]) -> pb.ToWorker:
    """The complete list of captured workloads."""
    return pb.ToWorker(
        local_workloads=pb.LocalWorkloads(
            workloads=[
                pb.LocalWorkload(
                    number=w.number, name=w.name, namespace=w.namespace, identity=str(w.identity), unit=w.unit
                )
                for w in workloads
            ]
        )
    )


def read_local_workload(message: pb.LocalWorkload) -> LocalWorkload:
    """Inverse of what `local_workloads_update` wrote for one workload."""
    return LocalWorkload(
        message.number, message.name, message.namespace, Identity.parse(message.identity), message.unit
    )


def state_update(
    addresses: Iterable[bytes] = (),
    removed_addresses: Iterable[str] = (),
    authorizations: Iterable[bytes] = (),
    removed_authorizations: Iterable[str] = (),
) -> pb.ToWorker:
    """Resources as xDS delivered them."""
    return pb.ToWorker(
        state=pb.StateUpdate(
            addresses=list(addresses),
            removed_addresses=list(removed_addresses),
            authorizations=list(authorizations),
            removed_authorizations=list(removed_authorizations),
        )
    )
