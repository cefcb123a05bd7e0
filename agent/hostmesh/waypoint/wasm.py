"""WebAssembly plugins in Envoy's chains (proxy-wasm, V8), and whether their files are what they should be."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hostmesh.model.wasm import WasmFailure, WasmPhase, WasmPlugin
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.waypoint.envoy import Refused
from hostmesh.waypoint.shape import Json, message, typed

_log = logging.getLogger("hostmesh.waypoint")

MAX_MODULE = 64 << 20

_POLICIES = {
    WasmFailure.CLOSE: "FAIL_CLOSED",
    WasmFailure.OPEN: "FAIL_OPEN",
    WasmFailure.RELOAD: "FAIL_RELOAD",
}


def filters(program: WaypointProgram, hostname: str, port: int, phase: WasmPhase) -> list[Json]:
    """Those of one phase, for one port of a service; `hostname` "": of workloads by address."""
    applying = (one for one in program.plugins if not one.hostnames or hostname in one.hostnames)
    return [_filter(one) for one in applying if one.phase is phase and (not one.ports or port in one.ports)]


def with_digests(program: WaypointProgram) -> WaypointProgram:
    """The same with the plugins' files as they are now; one that may fail open is left out if its file is missing.

    Raises:
        Refused: a file is not there, or not the one that is meant.
    """
    return replace(program, plugins=tuple(_present(program))) if program.plugins else program


def _present(program: WaypointProgram) -> Iterator[WasmPlugin]:
    for one in program.plugins:
        try:
            yield replace(one, sha256=_digest(one))
        except Refused as error:
            if one.failure is not WasmFailure.OPEN:
                raise
            _log.error("%s; requests go on without it, as its failStrategy says", error)


def _digest(plugin: WasmPlugin) -> str:
    whose = f"WasmPlugin {plugin.namespace}/{plugin.name}: {plugin.path}"
    try:
        with Path(plugin.path).open("rb") as file:
            content = file.read(MAX_MODULE + 1)
    except OSError as error:
        raise Refused(f"{whose}: {error.strerror}; put the module on the waypoint's host, readable for all") from error
    if len(content) > MAX_MODULE:
        raise Refused(f"{whose} is longer than {MAX_MODULE} bytes")
    found = hashlib.sha256(content).hexdigest()
    if plugin.sha256 not in ("", found):
        raise Refused(f"{whose} has the SHA-256 {found}, not the one that the document names")
    return found


def _filter(one: WasmPlugin) -> Json:
    environment: Json = {"key_values": dict(one.environment), "host_env_keys": list(one.host_environment)}
    config: Json = {
        "name": f"{one.namespace}.{one.name}",
        "root_id": one.root_id,
        "failure_policy": _POLICIES[one.failure],
        "vm_config": {
            "vm_id": f"{one.namespace}.{one.name}.{one.sha256[:16]}",
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": one.path}},
            "environment_variables": environment,
        },
    }
    if one.config:
        config["configuration"] = message("google.protobuf.StringValue", value=one.config)
    return typed(f"hostmesh.wasm.{one.namespace}.{one.name}", "filters.http.wasm.v3.Wasm", config=config)
