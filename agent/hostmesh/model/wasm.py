"""A WebAssembly plugin of a waypoint (Istio WasmPlugin)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class WasmPhase(Enum):
    """Where among the waypoint's own steps it runs; `LAST` is right before the route."""

    AUTHN = "AUTHN"
    AUTHZ = "AUTHZ"
    STATS = "STATS"
    LAST = "UNSPECIFIED_PHASE"


class WasmFailure(Enum):
    """What becomes of requests when it cannot run."""

    CLOSE = "FAIL_CLOSE"
    OPEN = "FAIL_OPEN"
    RELOAD = "FAIL_RELOAD"


@dataclass(frozen=True, slots=True)
class WasmPlugin:
    """Attached as a policy is; `path` is on the waypoint's host, `sha256` what it must be, or "".

    `ports` empty: all. `host_environment` are names of variables that it sees of the waypoint's own.
    """

    name: str
    namespace: str
    path: str
    sha256: str = ""
    phase: WasmPhase = WasmPhase.LAST
    failure: WasmFailure = WasmFailure.CLOSE
    config: str = ""
    root_id: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    host_environment: tuple[str, ...] = ()
    hostnames: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
