"""The access log: one record per finished connection with ztunnel's field names, in its order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.telemetry.reasons import reason_of
from hostmesh.telemetry.records import Fields, LogRecord, render_fields

TARGET = "access"

_COMPLETE = "connection complete"


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
    """What all connections of one route have in common, rendered once: fields 2-5 and 8-13, and as plain text.

    `logged`: whether they are written at all.
    """

    source: Fields
    destination: Fields
    source_text: str
    destination_text: str
    logged: bool = True

    @classmethod
    def of(
        cls, direction: Literal["outbound", "inbound"], source: End, destination: End, service: Service | None
    ) -> Parties:
        """Both ends, the intended service and the direction, which also says whose access log it is."""
        own = (source if direction == "outbound" else destination).workload
        named: Fields = (("dst.service", service.hostname),) if service is not None else ()
        before: Fields = source.fields("src")
        after: Fields = (*named, *destination.fields("dst"), ("direction", direction))
        logged = own is None or direction not in own.unlogged
        return cls(before, after, f" {render_fields(before)}" if before else "", f" {render_fields(after)}", logged)


@dataclass(slots=True, init=False)
class Outcome:
    """How a connection ended. Bytes are seen by the reporter's own workload; `duration` is in seconds."""

    bytes_sent: int
    bytes_received: int
    duration: float
    error: str
    flags: str

    def __init__(
        self, bytes_sent: int, bytes_received: int, duration: float, error: str = "", flags: str = "-"
    ) -> None:
        self.bytes_sent = bytes_sent
        self.bytes_received = bytes_received
        self.duration = duration
        self.error = error
        self.flags = flags


@dataclass(slots=True, init=False)
class Completion:
    """A `Record`: `connection complete`. Fields or text are made when somebody writes them, and only those.

    Not frozen, and with a constructor of its own, as `Outcome`: there is one of both for each connection, and what
    `dataclass` writes stays interpreted.

    Args:
        parties: what the route's connections share.
        source: the client's `ip:port`.
        destination: the next hop outbound, the local address inbound, the original destination for plaintext.
        hbone: the CONNECT authority, `""` without HBONE.
        outcome: numbers, error and response flags.
    """

    parties: Parties
    source: str
    destination: str
    hbone: str
    outcome: Outcome

    def __init__(self, parties: Parties, source: str, destination: str, hbone: str, outcome: Outcome) -> None:
        self.parties = parties
        self.source = source
        self.destination = destination
        self.hbone = hbone
        self.outcome = outcome

    @property
    def level(self) -> str:
        """See `Record`."""
        return "error" if self.outcome.error else "info"

    @property
    def target(self) -> str:
        """See `Record`."""
        return TARGET

    @property
    def message(self) -> str:
        """See `Record`."""
        return _COMPLETE

    @property
    def fields(self) -> Fields:
        """See `Record`."""
        outcome, parties = self.outcome, self.parties
        return (
            ("src.addr", self.source),
            *parties.source,
            *_where(self.destination, self.hbone),
            *parties.destination,
            ("bytes_sent", outcome.bytes_sent),
            ("bytes_recv", outcome.bytes_received),
            ("duration", f"{int(outcome.duration * 1000)}ms"),
            *self._failure(),
        )

    def text(self) -> str:
        """See `Record`. What a route's connections share is rendered with the route."""
        outcome, parties = self.outcome, self.parties
        text = (
            f"{_COMPLETE}\tsrc.addr={self.source}{parties.source_text} {_where_text(self.destination, self.hbone)}"
            f"{parties.destination_text} bytes_sent={outcome.bytes_sent} bytes_recv={outcome.bytes_received} "
            f'duration="{int(outcome.duration * 1000)}ms"'
        )
        return f"{text} {render_fields(self._failure())}" if outcome.error else text

    def _failure(self) -> Fields:
        error, flags = self.outcome.error, self.outcome.flags
        if not error:
            return ()
        flagged: Fields = (("response_flags", flags),) if flags != "-" else ()
        return (("error", error), *flagged, ("reason", reason_of(error, flags, self.destination).name))


def opened(parties: Parties, source: str, destination: str, hbone: str) -> LogRecord:
    """`connection opened`, at debug: what the completion will say up to the direction."""
    fields = (("src.addr", source), *parties.source, *_where(destination, hbone), *parties.destination)
    return LogRecord("debug", TARGET, "connection opened", fields)


def audited(parties: Parties, source: str, destination: str, hbone: str, finding: str) -> LogRecord:
    """`connection would be refused`: what policies that are tried (`istio.io/dry-run`) have to say about one."""
    fields = (("src.addr", source), *parties.source, *_where(destination, hbone), *parties.destination)
    return LogRecord("info", TARGET, "connection would be refused", (*fields, ("audit", finding)))


def _where(destination: str, hbone: str) -> Fields:
    addressed = ("dst.addr", destination)
    return (addressed, ("dst.hbone_addr", hbone)) if hbone else (addressed,)


@lru_cache(maxsize=1024)
def _where_text(destination: str, hbone: str) -> str:
    return render_fields(_where(destination, hbone))


def early_failure(source: str, destination: str, direction: Literal["outbound", "inbound"], error: str) -> LogRecord:
    """`connection failed`: refused before anything about it was known, so it has no metrics either."""
    addressed: Fields = (("dst.addr", destination),) if destination else ()
    fields = (
        ("src.addr", source),
        *addressed,
        ("direction", direction),
        ("error", error),
        ("reason", reason_of(error).name),
    )
    return LogRecord("warn", TARGET, "connection failed", fields)
