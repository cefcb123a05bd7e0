"""The access log: one record per finished connection with ztunnel's field names, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.telemetry.reasons import reason_of
from hostmesh.telemetry.records import FieldValue, LogRecord

TARGET = "access"

Fields = tuple[tuple[str, FieldValue], ...]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection. `identity` is set for mutual TLS only; `name` wins over the workload's own."""

    workload: Workload | None = None
    identity: Identity | None = None
    name: str = ""
    namespace: str = ""
    cluster: str = ""

    def fields(self, prefix: str) -> Fields:
        """Workload, namespace, identity and cluster as far as they are known."""
        known = self.workload
        name = known.name or known.canonical_name if known is not None else self.name
        values = (
            ("workload", name),
            ("namespace", known.namespace if known is not None else self.namespace),
            ("identity", str(self.identity) if self.identity is not None else ""),
            ("cluster", known.cluster_id if known is not None else self.cluster),
        )
        return tuple((f"{prefix}.{key}", value) for key, value in values if value)


@dataclass(frozen=True, slots=True)
class Parties:
    """What all connections of one route have in common, rendered once: fields 2-5 and 8-13."""

    source: Fields
    destination: Fields

    @classmethod
    def of(
        cls, direction: Literal["outbound", "inbound"], source: End, destination: End, service: Service | None
    ) -> Parties:
        """Both ends, the intended service and the direction."""
        named: Fields = (("dst.service", service.hostname),) if service is not None else ()
        return cls(source.fields("src"), (*named, *destination.fields("dst"), ("direction", direction)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a connection ended. Bytes are seen by the reporter's own workload; `duration` is in seconds."""

    bytes_sent: int
    bytes_received: int
    duration: float
    error: str = ""
    flags: str = "-"


def completion(parties: Parties, source: str, destination: str, hbone: str, outcome: Outcome) -> LogRecord:
    """`connection complete`.

    Args:
        parties: what the route's connections share.
        source: the client's `ip:port`.
        destination: the next hop outbound, the local address inbound, the original destination for plaintext.
        hbone: the CONNECT authority, `""` without HBONE.
        outcome: numbers, error and response flags.
    """
    fields: list[tuple[str, FieldValue]] = [("src.addr", source), *parties.source, ("dst.addr", destination)]
    if hbone:
        fields.append(("dst.hbone_addr", hbone))
    fields += parties.destination
    fields += (
        ("bytes_sent", outcome.bytes_sent),
        ("bytes_recv", outcome.bytes_received),
        ("duration", f"{int(outcome.duration * 1000)}ms"),
    )
    if not outcome.error:
        return LogRecord("info", TARGET, "connection complete", tuple(fields))
    fields.append(("error", outcome.error))
    if outcome.flags != "-":
        fields.append(("response_flags", outcome.flags))
    fields.append(("reason", reason_of(outcome.error, outcome.flags, destination).name))
    return LogRecord("error", TARGET, "connection complete", tuple(fields))


def early_failure(source: str, destination: str, direction: Literal["outbound", "inbound"], error: str) -> LogRecord:
    """`connection failed`: refused before anything about it was known, so it has no metrics either."""
    fields: list[tuple[str, FieldValue]] = [("src.addr", source)]
    if destination:
        fields.append(("dst.addr", destination))
    fields += (("direction", direction), ("error", error), ("reason", reason_of(error).name))
    return LogRecord("warn", TARGET, "connection failed", tuple(fields))
