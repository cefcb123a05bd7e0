"""Who is meant by a word: a workload by any of its names, a destination by name or address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from hostmesh.admin.world import CapturedView, World
from hostmesh.model.address import IPAddress, NetworkAddress, canonical
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.proxy.upstream import workload_at


@dataclass(frozen=True, slots=True)
class Source:
    """Who calls: a workload, one that is captured but that nobody described, or an address outside the mesh."""

    text: str
    workload: Workload | None = None
    captured: CapturedView | None = None
    ip: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is called; `service` or `workload` is set when it was named."""

    text: str
    ip: IPAddress
    service: Service | None = None
    workload: Workload | None = None


class NotUnderstood(ValueError):
    """The word means nobody, or several; the message says what could be meant."""


def find_source(world: World, text: str) -> Source:
    """Who `text` is: `namespace/name`, `name`, a unit, a SPIFFE id, an address.

    Raises:
        NotUnderstood: nobody, or several.
    """
    captured = _captured(world, text)
    if captured is not None:
        return Source(text, _described(world, captured), captured)
    ip = _ip(text)
    if ip is not None:
        found = workload_at(world.state, NetworkAddress(world.network, ip), 0)
        known = found if isinstance(found, Workload) else None
        return Source(
            text, known, _captured(world, f"{known.namespace}/{known.name}") if known is not None else None, ip
        )
    workload = _one_workload(world, text) or _one_by_canonical_name(world, text)
    if workload is None:
        raise NotUnderstood(_nobody(world, text))
    return Source(text, workload, _captured(world, f"{workload.namespace}/{workload.name}"))


def find_target(world: World, text: str, namespace: str) -> Target | None:
    """What `text` is, for a client of `namespace`: a hostname, a service, a workload, an address; None: unknown."""
    ip = _ip(text)
    if ip is not None:
        return Target(text, ip)
    for service in _services(world, text, namespace):
        vips = sorted(service.vips, key=lambda vip: (vip.network != world.network, vip.ip.version))
        if vips:
            return Target(text, vips[0].ip, service=service)
        endpoint = next((w for w in world.state.endpoints(service) if w.addresses), None)
        if endpoint is not None:
            return Target(text, endpoint.addresses[0], service=service)
    workload = _one_workload(world, text)
    if workload is not None and workload.addresses:
        return Target(text, workload.addresses[0], workload=workload)
    return None


def _services(world: World, text: str, namespace: str) -> Iterator[Service]:
    """By hostname, then as `namespace/name`, `name.namespace` and `name`, as clients shorten them.

    Who is of no namespace means by a name the only service that is called so.
    """
    yield from world.state.services_by_host(text, namespace)
    wanted = {tuple(text.split("/", 1))} if "/" in text else {(namespace, text)}
    if "." in text:
        name, rest = text.split(".", 1)
        wanted.add((rest.removesuffix(".svc"), name))
    yield from (one for one in world.state.services() if (one.namespace, one.name) in wanted)
    called = [one for one in world.state.services() if one.name == text] if not namespace else []
    if len(called) == 1:
        yield called[0]


def _captured(world: World, text: str) -> CapturedView | None:
    for one in world.host.captured if world.host is not None else ():
        units = {one.unit, one.unit.removesuffix(".service")} - {""}
        if text in {f"{one.namespace}/{one.name}", f"{one.name}.{one.namespace}", str(one.identity), *units}:
            return one
    return None


def _described(world: World, captured: CapturedView) -> Workload | None:
    identity = captured.identity
    node = world.host.node if world.host is not None else ""
    return world.state.local_workload(captured.name, identity.namespace, identity.service_account, node)


def _one_workload(world: World, text: str) -> Workload | None:
    found = [one for one in world.state.workloads() if text in _names(one)]
    if len({one.identity for one in found}) > 1:
        raise NotUnderstood(f"{text!r} could be {', '.join(f'{one.namespace}/{one.name}' for one in found[:5])}")
    return found[0] if found else None


def _one_by_canonical_name(world: World, text: str) -> Workload | None:
    """As its documents call the application, which may run on several hosts."""
    found = [one for one in world.state.workloads() if text == one.canonical_name]
    if len({one.identity for one in found}) > 1:
        raise NotUnderstood(f"{text!r} could be {', '.join(f'{one.namespace}/{one.name}' for one in found[:5])}")
    return found[0] if found else None


def _names(one: Workload) -> tuple[str, ...]:
    return (
        f"{one.namespace}/{one.name}",
        one.name,
        f"{one.name}.{one.namespace}",
        one.uid,
        str(one.identity),
        one.workload_name or one.name,
        one.hostname or one.name,
    )


def _nobody(world: World, text: str) -> str:
    known = [f"{one.namespace}/{one.name}" for one in world.state.workloads()]
    some = ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
    return f"no workload, unit or address {text!r}; known are {some or 'none'}"


def _ip(text: str) -> IPAddress | None:
    try:
        return canonical(ip_address(text.strip("[]")))
    except ValueError:
        return None
