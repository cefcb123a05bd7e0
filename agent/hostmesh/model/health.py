"""How a workload's health is probed (Istio's ReadinessProbe of a WorkloadGroup)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Healthy if a connection is accepted."""

    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Healthy if a GET is answered with 200 to 399; `tls` without looking at the certificate."""

    port: int
    host: str = "127.0.0.1"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    tls: bool = False


@dataclass(frozen=True, slots=True)
class ExecProbe:
    """Healthy if the command ends with 0."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """What to probe, and when to believe it. Times are seconds; thresholds are results in a row."""

    probe: TcpProbe | HttpProbe | ExecProbe
    initial_delay: float = 0.0
    timeout: float = 1.0
    period: float = 10.0
    success_threshold: int = 1
    failure_threshold: int = 3


class Verdict(Enum):
    """What is told to the control plane; UNKNOWN before the first result: what was so before stays so."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
