"""What the destination's host has logged of a caller lately: causes that lie with the caller, seen from here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from hostmesh.admin.explain import Explanation
from hostmesh.admin.parties import Target
from hostmesh.admin.steps import Step
from hostmesh.admin.world import World
from hostmesh.model.address import NetworkAddress, SocketAddress
from hostmesh.model.workload import Protocol, Workload
from hostmesh.telemetry.reasons import Reason

SHOWN_BETTER = frozenset(
    {
        Reason.POLICY_DENIED,
        Reason.POLICY_NOT_ALLOWED,
        Reason.PLAINTEXT_REFUSED,
        Reason.NETWORK_POLICY,
        Reason.POLICY_CHANGED,
        Reason.DRAINED,
        Reason.INTERRUPTED,
        Reason.TUNNEL_LOST,
    }
)
"""What is so no more, or what the policies of now say: the log tells of before."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A line of this host's access log about an inbound connection; `reason` is None where nothing failed."""

    at: float
    fields: Mapping[str, str]
    reason: Reason | None = None


def served_here(world: World, target: Target) -> tuple[Workload, ...]:
    """Who is meant and captured on the host that was asked."""
    if target.service is not None:
        meant: Iterable[Workload] = world.state.listed(target.service)
    elif target.workload is not None:
        meant = (target.workload,)
    else:
        meant = world.state.workloads_at(NetworkAddress(world.network, target.ip))
    here = {(one.namespace, one.name) for one in world.host.captured} if world.host is not None else set()
    return tuple(one for one in meant if (one.namespace, one.name) in here)


def newest(lines: Iterable[Heard], caller: Workload, served: Iterable[Workload]) -> Heard | None:
    """The first line of those, the newest first, that is about this caller and one of these destinations.

    Who failed before anybody knew who it was is known by the address alone. Plaintext is of some process of the host,
    and counts only where the caller has not shown itself.
    """
    destinations = {one.name for one in served}
    plaintext = None
    for line in lines:
        if not _is_about(line.fields, caller, destinations):
            continue
        if not _is_plaintext(line.fields):
            return line
        plaintext = plaintext or line
    return plaintext


def with_heard(found: Explanation, line: Heard | None, caller: Workload, now: float) -> Explanation:
    """The explanation, with what the log says as well.

    Args:
        found: in which nothing stops the connection.
        line: the newest about this caller.
        caller: who calls from elsewhere.
        now: seconds since the epoch.
    """
    step = _step(line, caller, now)
    reason = step.reason if step.reason is not None and found.reason in _PLAIN else found.reason
    return Explanation((*found.steps, step), step.weight != "stops", reason)


_PLAIN = frozenset({Reason.MUTUAL_TLS, Reason.PLAINTEXT})


def _step(line: Heard | None, caller: Workload, now: float) -> Step:
    who = f"{caller.namespace}/{caller.name}"
    if line is None:
        text = f"the log of this host has no connection of {who} in the last minutes: what it tried did not come here"
        why = "its capture, its certificate, and where its resolver leads, are known there"
        return Step("log", f"{text}; on {caller.node or 'its host'} `hostmesh explain` says more ({why})")
    fields, error = line.fields, line.fields.get("error", "")
    whose = who if "src.workload" in fields else f"the host of {who}"
    came = f"the last connection of {whose} came {max(0, now - line.at):.0f} s ago"
    if _is_plaintext(fields) and caller.protocol is Protocol.HBONE:
        text = f"{came} in plaintext: {caller.node or 'its host'} does not capture it, or not all of its processes"
        return Step("log", text, "stops" if error else "odd", Reason.NOT_CAPTURED)
    if not error:
        return Step("log", f"{came}, as {fields.get('src.identity', 'nobody')}")
    if line.reason is None or line.reason in SHOWN_BETTER:
        return Step("log", f"{came} and ended so: {error}")
    return Step("log", f"{came} and failed: {error}", "stops", line.reason)


def _is_about(fields: Mapping[str, str], caller: Workload, destinations: Collection[str]) -> bool:
    return (
        fields.get("direction") == "inbound"
        and _is_from(fields.get("src.addr", ""), caller)
        and fields.get("src.workload", caller.name) in (caller.name, caller.canonical_name)
        and ("dst.workload" not in fields or fields["dst.workload"] in destinations)
    )


def _is_plaintext(fields: Mapping[str, str]) -> bool:
    return "dst.workload" in fields and "src.identity" not in fields


def _is_from(address: str, caller: Workload) -> bool:
    try:
        return SocketAddress.parse(address).ip in caller.addresses
    except ValueError:
        return False
