"""Explain a connection: walk through every decision that would be made about it, with the code that makes them.

Capture, identity and certificate, name, route, the way, NetworkPolicy, and the destination's policies. The first step
that stops the connection is the reason; if none does, the first that is not as it should be; else how it goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hostmesh.admin.explain_waypoint import Asked, endpoints, program_of, waypoint_steps
from hostmesh.admin.parties import Source, Target, find_source, find_target
from hostmesh.admin.policy_words import rule_lines
from hostmesh.admin.steps import Step
from hostmesh.admin.world import CertificateView, Probe, Reach, World
from hostmesh.firewall.semantics import Attempt, Endpoint, allowed
from hostmesh.model.address import IPAddress, NetworkAddress, SocketAddress
from hostmesh.model.authorization import Authorization
from hostmesh.model.connection import Connection
from hostmesh.model.identity import Identity
from hostmesh.model.network_policy import Member
from hostmesh.model.network_policy import Protocol as NetworkProtocol
from hostmesh.model.service import Service
from hostmesh.model.workload import HealthStatus, Protocol, Workload
from hostmesh.proxy.failure import denied
from hostmesh.proxy.route import Refused, Route, Unknown, Unresolved, route
from hostmesh.proxy.upstream import workload_at
from hostmesh.rbac.decide import decide, matches
from hostmesh.telemetry.reasons import Reason, reason_of

NOTHING_SAID = Asked()

OPTED_OUT = "opted out"
"""How a host says that the mesh's documents leave a workload of it out."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`allowed` is what would happen, `reason` why, `steps` how it was found."""

    steps: tuple[Step, ...]
    allowed: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Walk:
    """What the steps have found so far. `identity` is None where the connection is plaintext."""

    world: World
    source: Source
    now: float
    probe: Probe
    asked: Asked
    identity: Identity | None = None


def explain(
    world: World,
    source: str,
    destination: str,
    port: int,
    now: float,
    probe: Probe = lambda _: Reach.UNKNOWN,
    asked: Asked = NOTHING_SAID,
) -> Explanation:
    """What becomes of a connection from `source` to `destination:port`.

    Args:
        world: what is known.
        source: a workload, a unit, a SPIFFE id or an address.
        destination: a hostname, a service, a workload or an address.
        port: as the client says it.
        now: seconds since the epoch.
        probe: tries a TCP connection from here.
        asked: what is known of the request, for waypoints.

    Raises:
        NotUnderstood: `source` is nobody, or several.
    """
    walk = _Walk(world, find_source(world, source), now, probe, asked)
    steps = list(_steps(walk, destination, port))
    stop = next((step for step in steps if step.weight == "stops"), None)
    odd = next((step for step in steps if step.weight == "odd" and step.reason is not None), None)
    good = next((step.reason for step in reversed(steps) if step.weight == "fine" and step.reason), Reason.MUTUAL_TLS)
    # Whoever is not captured is refused for a consequence of that.
    root = odd if stop is None or (odd is not None and odd.reason is Reason.NOT_CAPTURED) else stop
    return Explanation(tuple(steps), stop is None, root.reason if root is not None and root.reason else good)


def _steps(walk: _Walk, destination: str, port: int) -> Iterator[Step]:
    yield (capture := _capture(walk))
    if capture.weight == "stops":
        return
    yield from _silence(walk)
    host = walk.world.host
    if host is not None and host.error:
        text = f"{host.node} has lost its control plane, what it knows may be old: {host.error}"
        yield Step("knowledge", text, "odd")
    caller = walk.source.workload if capture.weight == "fine" else None
    namespace = walk.source.workload.namespace if walk.source.workload is not None else ""
    target = find_target(walk.world, destination, namespace)
    if target is None:
        text = f"{destination} is no service or workload of the mesh; the client's resolver decides what it is"
        yield Step("name", text, "stops", Reason.NAME_UNKNOWN)
        return
    yield from _name(target, port)
    if caller is None:
        yield from _plaintext(walk, target, port)
        return
    found = route(walk.world.state, caller, SocketAddress(target.ip, port), network=walk.world.network, rng=lambda: 0.0)
    if isinstance(found, Refused):
        yield from _out_of_rotation(walk.world, target)
        yield Step("route", found.reason, "stops", reason_of(found.reason))
        return
    if isinstance(found, Unresolved):
        text = f"the destination has the hostname {found.hostname} and no address: the client's agent resolves it"
        yield Step("route", text)
        return
    if isinstance(found, Unknown):
        text = f"the agent follows the mesh on demand and will ask the control plane whose {found.name} is"
        yield Step("route", text)
        return
    yield from _way(walk, caller, found)


# Who calls


def _capture(walk: _Walk) -> Step:
    source, host = walk.source, walk.world.host
    workload, captured = source.workload, source.captured
    if captured is not None and host is not None and captured.capture != OPTED_OUT:
        whom = f"{captured.namespace}/{captured.name} ({captured.unit or 'network namespace'})"
        blocking = [name for name in host.pending if name != "certificates"]
        if captured.capture != "captured":
            return Step("capture", f"{whom} on {host.node}: {captured.capture}", "stops", Reason.CAPTURE_INCOMPLETE)
        if workload is None:
            text = f"{whom} is captured on {host.node}, but the control plane has not described it there"
            return Step("capture", text, "stops", Reason.SOURCE_UNKNOWN)
        if blocking:
            why = f"{', '.join(blocking)} {host.error}".strip()
            return Step("capture", f"the agent of {host.node} is not ready: {why}", "stops", Reason.AGENT_NOT_READY)
        return Step("capture", f"{whom} is captured on {host.node}")
    if workload is None:
        return Step("capture", f"{source.text} is no workload of the mesh: its connections are plaintext", "odd")
    who = f"{workload.namespace}/{workload.name}"
    if workload.protocol is Protocol.TCP:
        text = f"{who} is in the mesh's documents but does not take part in it"
        return Step("capture", text, "odd", Reason.NOT_CAPTURED)
    if host is not None and workload.node == host.node:
        return Step("capture", f"{who} belongs to {host.node}, which does not capture it", "odd", Reason.NOT_CAPTURED)
    return Step("capture", f"{who} is taken to be captured on {workload.node or 'its host'}, which was not asked")


def _silence(walk: _Walk) -> Iterator[Step]:
    """What the control plane knows of the caller's host, which was not asked."""
    caller, host = walk.source.workload, walk.world.host
    if caller is not None and caller.node in walk.world.gone and (host is None or host.node != caller.node):
        silent = (walk.now - walk.world.gone[caller.node]) / 60
        text = f"the agent of {caller.node} has not been heard of for {silent:.0f} min: see `hostmesh status` there"
        yield Step("capture", text, "odd", Reason.AGENT_NOT_READY)


def _certificates(walk: _Walk, caller: Workload, found: Route) -> Iterator[Step]:
    world, identity = walk.world, caller.identity
    for whose, one in (("", identity), ("the destination's ", found.expected[0])):
        if one in world.revoked:
            yield Step("identity", f"{whose}{one} is revoked", "stops", Reason.CERTIFICATE_REVOKED)
    if world.certificates is None or (walk.source.captured is None and identity not in world.certificates):
        yield Step("identity", f"{identity}; its certificate was not looked at")
        return
    view = world.certificates.get(identity, CertificateView("Initializing"))
    yield replace(_certificate(identity, view, walk.now), about="identity")


def _certificate(identity: Identity, view: CertificateView, now: float) -> Step:
    if view.not_after is None or view.not_before is None:
        why = view.error or view.state.removeprefix("Unavailable: ")
        reason = reason_of(f"identity error: {why}")
        return Step("", f"{identity} has no certificate: {why}", "stops", reason)
    if now < view.not_before:
        text = f"the certificate of {identity} is valid in {view.not_before - now:.0f} s only: a clock is wrong"
        return Step("", text, "stops", Reason.CLOCK_SKEW)
    if now >= view.not_after:
        late = f"{now - view.not_after:.0f} s ago"
        skewed = reason_of(view.error) is Reason.CLOCK_SKEW if view.error else False
        text = f"the certificate of {identity} expired {late}{f': {view.error}' if view.error else ''}"
        return Step("", text, "stops", Reason.CLOCK_SKEW if skewed else Reason.CERTIFICATE_EXPIRED)
    seconds = view.not_after - now
    left = (
        f"valid for another {seconds / 3600:.1f} h" if seconds >= 3600 else f"valid for another {seconds / 60:.0f} min"
    )
    if view.error:
        text = f"{identity}, {left}, but its renewal fails: {view.error}"
        return Step("", text, "odd", reason_of(f"identity error: {view.error}"))
    return Step("", f"{identity}, {left}")


# Where to


def _name(target: Target, port: int) -> Iterator[Step]:
    if target.service is not None:
        where = f"service {target.service.key}, address {target.ip}"
        own = "which has that port" if port in target.service.ports else f"which has no port {port}"
        yield Step("name", f"{target.text} is {where}, {own}")
    elif target.workload is not None:
        yield Step("name", f"{target.text} is workload {target.workload.namespace}/{target.workload.name}, {target.ip}")


def _out_of_rotation(world: World, target: Target) -> Iterator[Step]:
    """Who would serve it, and why they do not."""
    for one in world.state.listed(target.service) if target.service is not None else ():
        if one.status is HealthStatus.UNHEALTHY:
            yield Step("endpoint", f"{one.namespace}/{one.name} is not in rotation: {_ailment(world, one)}", "odd")


def _ailment(world: World, workload: Workload) -> str:
    if workload.node in world.gone:
        return f"the agent of {workload.node} has not been heard of"
    why = world.unhealthy.get(f"{workload.namespace}/{workload.name}")
    return why or "its probe fails, or its host has not been heard of (`hostmesh get leases` on the control plane)"


def _vips(service: Service) -> list[IPAddress]:
    return [vip.ip for vip in service.vips]


def _way(walk: _Walk, caller: Workload, found: Route) -> Iterator[Step]:
    workload = found.workload
    if found.kind == "passthrough" or workload is None:
        text = f"nobody in the mesh has {found.connect}: it is dialled in plaintext"
        yield Step("route", text, "fine", Reason.PASSTHROUGH)
        yield from _reach(walk, found.connect, Reason.CONNECT_FAILED, Reason.CONNECT_FAILED)
        return
    who = f"{workload.namespace}/{workload.name}"
    if found.kind == "tcp":
        text = f"{who} does not speak HBONE: {found.connect} is dialled in plaintext"
        yield Step("route", text, "fine", Reason.PLAINTEXT)
        yield from _network_policy(walk, workload, found.connect)
        yield from _reach(walk, found.connect, Reason.APPLICATION_REFUSED, Reason.CONNECT_FAILED)
        return
    if found.kind == "double":
        text = f"the destination is behind the network gateway {who}: HBONE inside HBONE to {found.connect}"
        yield Step("route", f"{text}, CONNECT {found.authority}", "fine", Reason.MUTUAL_TLS)
        yield from _certificates(walk, caller, found)
        yield from _reach(walk, found.connect, Reason.HBONE_REFUSED, Reason.HBONE_BLOCKED)
        return
    destination = SocketAddress.parse(str(found.authority))
    through = destination.ip not in workload.addresses
    if through:
        text = (
            f"the destination has the waypoint {who}: HBONE to {found.connect}, which decides about {found.authority}"
        )
        yield Step("route", text, "fine", Reason.THROUGH_WAYPOINT)
    else:
        text = f"{who} speaks HBONE and has no waypoint: HBONE to {found.connect}, CONNECT {found.authority}"
        yield Step("route", text, "fine", Reason.MUTUAL_TLS)
    if found.or_host:
        text = f"no service maps port {destination.port} to {who}: if its agent says that the port is no workload's,"
        yield Step("route", f"{text} the connection passes through to the host")
    yield from _certificates(walk, caller, found)
    if caller.trust_domain != workload.trust_domain:
        text = f"{caller.identity} calls {workload.identity}: another trust domain"
        yield Step("identity", text, "stops", Reason.TRUST_DOMAIN_MISMATCH)
    if workload.status is HealthStatus.UNHEALTHY:
        text = f"{who} is not in rotation: {_ailment(walk.world, workload)}"
        yield Step("endpoint", text, "odd", Reason.NO_HEALTHY_ENDPOINT)
    yield from _network_policy(walk, workload, found.connect)
    refused = Reason.WAYPOINT_UNHEALTHY if through else Reason.HBONE_REFUSED
    yield from _reach(walk, found.connect, refused, Reason.HBONE_BLOCKED)
    if not through:
        yield from _policies(replace(walk, identity=caller.identity), workload, destination)
    elif (program := program_of(walk.world, workload)) is not None:
        yield from waypoint_steps(walk.world, program, caller, destination, walk.asked)
        for hop in endpoints(walk.world, program, caller, destination, walk.asked):
            yield Step("endpoint", f"{hop.workload.namespace}/{hop.workload.name}, which is called by the waypoint")
            beyond = replace(walk, identity=hop.identity, source=Source(str(hop.identity), workload, None, None))
            yield from _policies(beyond, hop.workload, hop.address)


def _reach(walk: _Walk, address: SocketAddress, refused: Reason, silent: Reason) -> Iterator[Step]:
    reach = walk.probe(address)
    match reach:
        case Reach.UNKNOWN:
            yield Step("reach", f"{address} was not tried from here")
        case Reach.OPEN:
            yield Step("reach", f"{address} answers")
        case Reach.REFUSED:
            yield Step("reach", f"{address} refuses connections", "stops", refused)
        case Reach.SILENT:
            yield Step("reach", f"{address} does not answer", "stops", silent)


def _network_policy(walk: _Walk, workload: Workload, address: SocketAddress) -> Iterator[Step]:
    world, caller = walk.world, walk.source.workload
    if not world.network_policies:
        return
    ip = next(iter(caller.addresses), None) if caller is not None else walk.source.ip
    if ip is None:
        return
    ends = Endpoint(ip, _member(world, caller)), Endpoint(address.ip, _member(world, workload))
    attempt = Attempt(*ends, NetworkProtocol.TCP, address.port)
    verdict = allowed(world.network_policies, world.membership, attempt)
    if verdict.allowed:
        yield Step("network", f"NetworkPolicy on the hosts: {verdict.reason}")
    else:
        named = ", ".join(verdict.policies)
        text = f"port {address.port}: {verdict.reason} ({named}); `hostmesh netpol adapt` adds what the mesh needs"
        yield Step("network", text, "stops", Reason.NETWORK_POLICY)


def _member(world: World, workload: Workload | None) -> Member | None:
    members = world.membership.members
    return next((one for one in members if workload is not None and one.uid == workload.uid), None)


# At the destination


def _plaintext(walk: _Walk, target: Target, port: int) -> Iterator[Step]:
    """Nobody captures the caller: only addresses of workloads lead anywhere, and no identity comes along."""
    if target.service is not None and target.ip in _vips(target.service):
        text = f"{target.ip} is an address of the mesh alone, which leads nowhere without capture"
        yield Step("route", text, "stops", Reason.NOT_CAPTURED)
        return
    address = SocketAddress(target.ip, port)
    meant = target.workload or workload_at(walk.world.state, NetworkAddress(walk.world.network, target.ip), port)
    if isinstance(meant, Refused):
        yield Step("route", meant.reason, "stops", Reason.AMBIGUOUS_ADDRESS)
    elif meant is None or meant.protocol is not Protocol.HBONE:
        yield Step("route", f"{address} is outside the mesh", "fine", Reason.PASSTHROUGH)
    else:
        whose = f"{meant.namespace}/{meant.name}, taken in by the agent of {meant.node or 'its host'}"
        yield Step("route", f"plaintext to {address} of {whose}", "fine", Reason.PLAINTEXT)
        yield from _policies(walk, meant, address)


def _policies(walk: _Walk, workload: Workload, destination: SocketAddress) -> Iterator[Step]:
    world = walk.world
    caller = walk.source.workload
    ip = next(iter(caller.addresses), destination.ip) if caller is not None else walk.source.ip or destination.ip
    facts = Connection(SocketAddress(ip, 0), destination, walk.identity, world.network)
    policies = world.state.policies_for(workload)
    for policy in policies:
        yield Step("policy", _considered(policy, facts, world.sources.get(policy.key, "")))
    for key in world.state.missing_policies(workload):
        text = f"{key} is named by {workload.namespace}/{workload.name}, and the agent has not got it"
        yield Step("policy", text, "odd", Reason.POLICY_MISSING)
    verdict = decide(policies, facts)
    for finding in verdict.dry_run:
        yield Step("policy", finding)
    if verdict.allowed:
        yield Step("policy", f"allowed: {verdict.reason}")
    else:
        failure = denied(verdict.reason, verdict.policies)
        deciding = [f"{key} at {world.sources[key]}" for key in verdict.policies if key in world.sources]
        text = failure.error.removeprefix("connection closed due to policy rejection: ")
        written = f" ({', '.join(deciding)})" if deciding else ""
        # Where each is written says its name, too.
        text = text.removesuffix(f" ({', '.join(verdict.policies)})") if deciding else text
        yield Step(
            "policy",
            f"refused: {text}{written}",
            "stops",
            reason_of(failure.error, failure.flags),
        )


def _considered(policy: Authorization, facts: Connection, where: str) -> str:
    hit = "matches" if matches(policy, facts) else "does not match"
    dry = ", dry-run only" if policy.dry_run else ""
    rules = "; ".join(rule_lines(policy))
    return f"{policy.action.value.upper()} {policy.key}{f' ({where})' if where else ''} {hit}{dry}: {rules}"
