"""Columns of certificates and connections, as `istioctl ztunnel-config` prints them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
Row = tuple[str, ...]


def certificate_rows(certificates: list[Json], now: float) -> list[Row]:
    """Leaf, intermediates and roots of each identity; one that has none says so."""
    rows: list[Row] = [("CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")]
    for one in certificates:
        state = str(one.get("state", "NA"))
        status = "Unavailable" if state.startswith("Unavailable") else state
        chain, roots = one.get("certChain") or [], one.get("rootCerts") or []
        kinds = ["Leaf", *["Intermediate"] * (len(chain) - 1)][: len(chain)] + ["Root"] * len(roots)
        name = str(one.get("identity", "NA"))
        if not kinds:
            rows.append((name, "NA", status, "false", "NA", "NA", "NA"))
        rows += [
            (name, kind, status, *_certificate(found, now)) for kind, found in zip(kinds, [*chain, *roots], strict=True)
        ]
    return rows


def _certificate(found: Json, now: float) -> Row:
    begins, ends = str(found.get("validFrom", "")), str(found.get("expirationTime", ""))
    valid = _seconds(begins) <= now < _seconds(ends)
    serial = str(found.get("serialNumber", ""))
    return (str(valid).lower(), f"{int(serial):x}" if serial.isdigit() else serial or "NA", ends, begins)


def _seconds(text: str) -> float:
    """A time that cannot be read is never valid."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


def connection_rows(states: Mapping[str, Json], names: Callable[[str], str], direction: str | None) -> list[Row]:
    """Open connections of each workload of this host.

    Args:
        states: `workloadState`.
        names: shows an `ip:port`.
        direction: `inbound`, `outbound` or None for both.
    """
    rows: list[Row] = [("WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL")]
    for state in sorted(states.values(), key=_workload):
        connections = state.get("connections") or {}
        for one in connections.get("inbound") or () if direction != "outbound" else ():
            target = one.get("originalDst") or ""
            rows.append(_row(state, "Inbound", names(one["actualDst"]), names(one["src"]), names(target), one))
        for one in connections.get("outbound") or () if direction != "inbound" else ():
            target = one.get("originalDst") or ""
            rows.append(_row(state, "Outbound", names(one["src"]), names(one["actualDst"]), names(target), one))
    return rows


def _row(state: Json, direction: str, local: str, remote: str, target: str, one: Json) -> Row:
    return (_workload(state), direction, local, remote, target, str(one.get("protocol", "NA")))


def _workload(state: Json) -> str:
    info = state.get("info") or {}
    return f"{info.get('name', '')}.{info.get('namespace', '')}"


def address_names(workloads: list[Json], services: list[Json]) -> Callable[[str], str]:
    """Shows `ip:port` as `name.namespace:port` where the mesh knows the address of one workload or service alone."""
    known = dict(_addresses(workloads, services))

    def name(address: str) -> str:
        host, colon, port = address.rpartition(":")
        found = known.get(host.strip("[]"), "")
        return f"{found}{colon}{port}" if found else address

    return name


def _addresses(workloads: list[Json], services: list[Json]) -> Iterator[tuple[str, str]]:
    claims: dict[str, set[str]] = {}
    for one in workloads:
        for ip in one.get("workloadIps") or ():
            claims.setdefault(ip, set()).add(f"{one['name']}.{one['namespace']}")
    for one in services:
        for vip in one.get("vips") or ():
            claims.setdefault(vip.rpartition("/")[2], set()).add(str(one.get("hostname") or one["name"]))
    for ip, names in claims.items():
        if len(names) == 1:
            yield ip, names.pop()
