"""Between the model's values and worker.proto's messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.model.trust import CertificateKey, TrustBundle
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


def local_workloads_update(workloads: Iterable[LocalWorkload], host_ports: Iterable[int] = ()) -> pb.ToWorker:
    """The complete list of captured workloads, and the ports of this host that are none of theirs."""
    return pb.ToWorker(
        local_workloads=pb.LocalWorkloads(
            workloads=[
                pb.LocalWorkload(
                    number=w.number,
                    name=w.name,
                    namespace=w.namespace,
                    identity=str(w.identity),
                    unit=w.unit,
                    in_namespace=w.in_namespace,
                    registry_only=w.registry_only,
                    default=w.default,
                )
                for w in workloads
            ],
            host_ports=sorted(host_ports),
        )
    )


def read_local_workload(message: pb.LocalWorkload) -> LocalWorkload:
    """Inverse of what `local_workloads_update` wrote for one workload."""
    return LocalWorkload(
        message.number,
        message.name,
        message.namespace,
        Identity.parse(message.identity),
        message.unit,
        message.in_namespace,
        message.registry_only,
        message.default,
    )


def state_update(
    addresses: Iterable[bytes] = (),
    removed_addresses: Iterable[str] = (),
    authorizations: Iterable[bytes] = (),
    removed_authorizations: Iterable[str] = (),
    *,
    more: bool = False,
) -> pb.ToWorker:
    """Resources as xDS delivered them, or with `more` a part of them."""
    return pb.ToWorker(
        state=pb.StateUpdate(
            addresses=list(addresses),
            removed_addresses=list(removed_addresses),
            authorizations=list(authorizations),
            removed_authorizations=list(removed_authorizations),
            more=more,
        )
    )


def trust_update(bundle: TrustBundle) -> pb.ToWorker:
    """Whom to trust from now on, with the revocation lists taken apart: a worker has better things to do."""
    serials: dict[bytes, list[bytes]] = {}
    for issuer, serial in sorted(bundle.revoked):
        serials.setdefault(issuer, []).append(serial.to_bytes((serial.bit_length() + 7) // 8, "big"))
    return pb.ToWorker(
        trust=pb.TrustUpdate(
            trust_domain=bundle.trust_domain,
            roots_pem=bundle.roots_pem,
            revoked=[pb.Revoked(issuer=issuer, serials=numbers) for issuer, numbers in serials.items()],
            revoked_identities=[str(identity) for identity in sorted(bundle.revoked_identities)],
        )
    )


def read_trust(message: pb.TrustUpdate) -> TrustBundle:
    """Inverse of what `trust_update` wrote; the signer is main's business."""
    revoked: set[CertificateKey] = set()
    for by_issuer in message.revoked:
        revoked.update((by_issuer.issuer, int.from_bytes(serial, "big")) for serial in by_issuer.serials)
    identities = frozenset(Identity.parse(text) for text in message.revoked_identities)
    return TrustBundle(message.trust_domain, message.roots_pem, frozenset(revoked), identities)
