"""One line for each rule of where a captured connection goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from random import Random
from typing import Any

import pytest

from hostmesh.model.address import (
    GatewayAddress,
    IPAddress,
    NamespacedHostname,
    NetworkAddress,
    NetworkCidr,
    SocketAddress,
    parse_ip,
)
from hostmesh.model.identity import Identity
from hostmesh.model.local import server_name
from hostmesh.model.service import (
    HealthPolicy,
    IpFamilies,
    LoadBalancing,
    LoadBalancingMode,
    Scope,
    Service,
    Visibility,
    WeightedWaypoint,
)
from hostmesh.model.workload import ApplicationTunnel, HealthStatus, NetworkMode, Protocol, TunnelKind, Workload
from hostmesh.proxy.route import Refused, Route, Unknown, Unresolved, route
from hostmesh.proxy.upstream import MAX_ASKED
from hostmesh.state.store import MeshState

VIP, API_KEY, WAYPOINT_KEY = "240.0.0.1", NamespacedHostname("shop", "api"), NamespacedHostname("infra", "waypoint")
BY_NAME = GatewayAddress(WAYPOINT_KEY, 15008)
BY_IP = GatewayAddress(NetworkAddress("", parse_ip("10.0.0.9")), 15008)


def at(text: str) -> NetworkAddress:
    return NetworkAddress("", parse_ip(text))


def workload(uid: str, *ips: str, **fields: Any) -> Workload:
    defaults = {"name": uid, "namespace": "shop", "protocol": Protocol.HBONE, "service_account": uid}
    return Workload(uid=uid, addresses=tuple(parse_ip(ip) for ip in ips), **(defaults | fields))


def service(hostname: str = "api", **fields: Any) -> Service:
    defaults = {"namespace": "shop", "vips": (at(VIP),), "ports": {80: 8080}}
    return Service(name=hostname, hostname=hostname, **(defaults | fields))


def endpoint(uid: str, *ips: str, ports: dict[int, int] | None = None, **fields: Any) -> Workload:
    return workload(uid, *ips, services={API_KEY: ports or {}}, **fields)


def balanced(mode: LoadBalancingMode, *scopes: Scope, health: HealthPolicy = HealthPolicy.ONLY_HEALTHY) -> Service:
    return service(load_balancing=LoadBalancing(mode, scopes, health))


CLIENT = workload("client", "10.0.0.1", node="n1")
API = service()
ONE = endpoint("one", "10.0.0.2")
WAYPOINT_SERVICE = service("waypoint", namespace="infra", vips=(at("240.0.0.9"),), ports={15008: 15008})
WAYPOINT = workload("waypoint", "10.0.0.9", namespace="infra", services={WAYPOINT_KEY: {}})
PASSTHROUGH = balanced(LoadBalancingMode.PASSTHROUGH)

Resource = Workload | Service


def mesh(*resources: Resource) -> MeshState:
    state = MeshState()
    for resource in (CLIENT, *resources):
        if isinstance(resource, Workload):
            state.upsert_workload(resource)
        else:
            state.upsert_service(resource)
    return state


Answer = Route | Refused | Unresolved


def names(hostname: str) -> tuple[IPAddress, ...] | None:
    """What a resolver has answered so far."""
    return tuple(map(parse_ip, NAMES[hostname])) if hostname in NAMES else None


def ask(resources: tuple[Resource, ...], destination: str, rng: Callable[[], float] = lambda: 0.0) -> Answer:
    state = mesh(*resources)
    source = state.workload(CLIENT.uid)
    assert source is not None
    return route(state, source, SocketAddress.parse(destination), network="", rng=rng, names=names)


def told(answer: Answer) -> str:
    """`kind connect [authority] [=workload] [@service]`, the reason of a refusal, or what must be resolved first."""
    if isinstance(answer, Unresolved):
        return f"resolve {answer.hostname}"
    if isinstance(answer, Refused):
        return f"refused: {answer.reason}"
    words = [answer.kind, str(answer.connect)]
    words += [answer.authority] if answer.authority is not None else []
    words += [f"={answer.workload.uid}"] if answer.workload is not None else []
    words += [f"@{answer.service.hostname}"] if answer.service is not None else []
    return " ".join(words)


REMOTE_GATEWAY = GatewayAddress(NetworkAddress("dc2", parse_ip("192.0.2.1")), 15009)
REMOTE = endpoint("remote", "10.9.0.1", network="dc2")
REMOTE_BEHIND_GATEWAY = replace(REMOTE, network_gateway=REMOTE_GATEWAY, addresses=())
NO_GATEWAY = "refused: no valid routing destination for workload: remote"
NAMELESS = "refused: {} is on network 'dc2', and its subjectAltNames do not say which identities may answer there"
SANS = ("spiffe://cluster.local/ns/shop/sa/remote",)
NAMED_API = service(subject_alt_names=SANS)
GATEWAY = workload("gateway", "192.0.2.1", network="dc2", namespace="infra")
GATEWAY_AT = GatewayAddress(NetworkAddress("dc2", parse_ip("192.0.2.1")), 15009)
GATEWAY_KEY = NamespacedHostname("infra", "east-west")
GATEWAY_SERVICE = service("east-west", namespace="infra", vips=(), ports={15009: 15008})
TO_VIP, TO_SIX = f"{VIP}:80", "[2001:db8::2]:80"
TO_ONE = "hbone 10.0.0.2:15008 10.0.0.2:8080 =one @api"
VIA_WAYPOINT = f"hbone 10.0.0.9:15008 {VIP}:80 =waypoint @api"
UNHEALTHY = f"refused: no healthy upstream: {VIP}:80"
EMPTY = f"{UNHEALTHY}, shop/api has no endpoints"
NO_PORT = f"refused: no healthy upstream: {VIP}:81, no endpoint of shop/api serves port 81"
NO_WAYPOINT = "refused: unknown waypoint: waypoint infra/waypoint not found"
NO_WAYPOINT_IP = "refused: unknown waypoint: waypoint /10.0.0.9 not found"
DEAD_WAYPOINT = "refused: unknown waypoint: waypoint infra/waypoint has no healthy endpoint"
CLAIMED = "refused: 10.0.0.2 port 8080 is claimed by several workloads: b, one"
NO_ANSWER = "refused: no ip addresses were resolved for workload: named (nowhere.example)"
NAMED = endpoint("named", hostname="db.example")
NAMES = {"db.example": ("192.0.2.5", "2001:db8::5"), "six.example": ("2001:db8::6",), "nowhere.example": ()}

NEIGHBOUR = endpoint("b", "10.0.0.2", ports={80: 9090})
SICK = replace(ONE, status=HealthStatus.UNHEALTHY)
ON_HOST_NETWORK = replace(ONE, network_mode=NetworkMode.HOST_NETWORK)
ON_NODE = replace(ONE, node="n1")
SIX = workload("six", "2001:db8::2")
CLAIMS_ONE = service(vips=(at("10.0.0.2"),))
PRIVATE = service(visibility=Visibility.NAMESPACE, namespace="other")
RANGE = service(vips=(), cidr_vips=(NetworkCidr("", ip_network("240.0.0.0/8")),))
TOLERANT = balanced(LoadBalancingMode.STANDARD, health=HealthPolicy.ALLOW_ALL)
NAMES_WAYPOINT, NAMES_WAYPOINT_IP = service(waypoint=BY_NAME), service(waypoint=BY_IP)
WAYPOINTS = (WAYPOINT_SERVICE, WAYPOINT)
BY_HOSTNAME = GatewayAddress(NamespacedHostname("infra", "wp"), 15021)
SANDWICHED = replace(WAYPOINT, application_tunnel=ApplicationTunnel(TunnelKind.PROXY, 15088))
DUAL_WAYPOINT = replace(WAYPOINT, addresses=(parse_ip("10.0.0.9"), parse_ip("2001:db8::9")))
MOVED_WAYPOINT = replace(WAYPOINT, addresses=(parse_ip("10.0.0.8"),))
REMOTE_WAYPOINT = replace(WAYPOINT, uid="remote", network="dc2", network_gateway=REMOTE_GATEWAY)


def weights(weight: int) -> tuple[WeightedWaypoint, ...]:
    return (WeightedWaypoint(BY_NAME, weight),)


RULES: list[tuple[str, tuple[Resource, ...], str, str]] = [
    # Nobody of the mesh
    ("unknown IP passes through", (), "198.51.100.7:443", "passthrough 198.51.100.7:443"),
    ("a mapped address is its IPv4", (ONE,), "[::ffff:10.0.0.2]:80", "hbone 10.0.0.2:15008 10.0.0.2:80 =one"),
    ("own listener on loopback", (), "127.0.0.1:15001", "refused: attempted recursive call to ourselves"),
    ("own listener on an own address", (), "10.0.0.1:15008", "refused: attempted recursive call to ourselves"),
    ("own listener on v6 loopback", (), "[::1]:15001", "refused: attempted recursive call to ourselves"),
    (
        "own listener on a mapped loopback",
        (),
        "[::ffff:127.0.0.1]:15006",
        "refused: attempted recursive call to ourselves",
    ),
    ("the SOCKS port is an own listener", (), "127.0.0.1:15080", "refused: attempted recursive call to ourselves"),
    ("another port of loopback is a port", (), "127.0.0.1:15000", "passthrough 127.0.0.1:15000"),
    ("unknown v6 passes through", (), "[2001:db8::7]:443", "passthrough [2001:db8::7]:443"),
    ("the same port elsewhere is a port", (), "198.51.100.7:15001", "passthrough 198.51.100.7:15001"),
    # Workloads by address
    ("HBONE workload", (ONE,), "10.0.0.2:8080", "hbone 10.0.0.2:15008 10.0.0.2:8080 =one"),
    ("TCP workload", (replace(ONE, protocol=Protocol.TCP),), "10.0.0.2:8080", "tcp 10.0.0.2:8080 =one"),
    ("HBONE workload of the same node", (ON_NODE,), "10.0.0.2:8080", "hbone 10.0.0.2:15008 10.0.0.2:8080 =one"),
    (
        "TCP workload of the same node",
        (replace(ON_NODE, protocol=Protocol.TCP),),
        "10.0.0.2:8080",
        "tcp 10.0.0.2:8080 =one",
    ),
    ("no hairpin: own address is a workload", (), "10.0.0.1:80", "hbone 10.0.0.1:15008 10.0.0.1:80 =client"),
    ("unhealthy is reachable by IP", (SICK,), "10.0.0.2:1", "hbone 10.0.0.2:15008 10.0.0.2:1 =one"),
    ("a port of no service is reachable by IP", (API, ONE), "10.0.0.2:1", "hbone 10.0.0.2:15008 10.0.0.2:1 =one"),
    ("host network is not found by IP", (ON_HOST_NETWORK,), "10.0.0.2:80", "passthrough 10.0.0.2:80"),
    ("v6 destination", (SIX,), TO_SIX, "hbone [2001:db8::2]:15008 [2001:db8::2]:80 =six"),
    (
        "several addresses: the one that was dialled",
        (workload("two", "10.0.0.3", "10.0.0.4"),),
        "10.0.0.4:80",
        "hbone 10.0.0.4:15008 10.0.0.4:80 =two",
    ),
    (
        "address of another network",
        (workload("far", "10.0.0.5", network="dc2"),),
        "10.0.0.5:80",
        "passthrough 10.0.0.5:80",
    ),
    # Workloads that share their host's address
    (
        "shared address: who serves the port",
        (API, ONE, NEIGHBOUR),
        "10.0.0.2:8080",
        "hbone 10.0.0.2:15008 10.0.0.2:8080 =one",
    ),
    ("shared address: own port map", (API, ONE, NEIGHBOUR), "10.0.0.2:9090", "hbone 10.0.0.2:15008 10.0.0.2:9090 =b"),
    (
        "shared address: port map of an unknown service",
        (workload("x", "10.0.0.2"), NEIGHBOUR),
        "10.0.0.2:9090",
        "hbone 10.0.0.2:15008 10.0.0.2:9090 =b",
    ),
    (
        "shared address: nobody has registered the port: who registers none is asked",
        (API, ONE, workload("b", "10.0.0.2")),
        "10.0.0.2:22",
        "hbone 10.0.0.2:15008 10.0.0.2:22 =b",
    ),
    (
        "shared address: nobody has registered the port, though all register some: any is asked",
        (API, ONE, NEIGHBOUR),
        "10.0.0.2:22",
        "hbone 10.0.0.2:15008 10.0.0.2:22 =b",
    ),
    (
        "shared address: nobody of those who share it speaks HBONE: the host itself",
        (replace(ONE, protocol=Protocol.TCP), replace(NEIGHBOUR, protocol=Protocol.TCP)),
        "10.0.0.2:22",
        "passthrough 10.0.0.2:22",
    ),
    (
        "shared address: a service port is no target port",
        (API, ONE, workload("b", "10.0.0.2")),
        "10.0.0.2:80",
        "hbone 10.0.0.2:15008 10.0.0.2:80 =b",
    ),
    (
        "a waypoint's address must be its own",
        (replace(NAMES_WAYPOINT_IP), WAYPOINT, workload("other", "10.0.0.9")),
        TO_VIP,
        NO_WAYPOINT_IP,
    ),
    ("shared address: never guessed", (API, ONE, endpoint("b", "10.0.0.2")), "10.0.0.2:8080", CLAIMED),
    (
        "shared address: HBONE before TCP",
        (API, ONE, endpoint("a", "10.0.0.2", protocol=Protocol.TCP)),
        "10.0.0.2:8080",
        "hbone 10.0.0.2:15008 10.0.0.2:8080 =one",
    ),
    (
        "shared address: a pod owns its address",
        (API, ONE, workload("z//Pod/shop/p", "10.0.0.2")),
        "10.0.0.2:8080",
        "hbone 10.0.0.2:15008 10.0.0.2:8080 =z//Pod/shop/p",
    ),
    # Services
    ("VIP: target port of the service", (API, ONE), TO_VIP, TO_ONE),
    (
        "VIP: the endpoint's own target port wins",
        (API, endpoint("one", "10.0.0.2", ports={80: 1234})),
        TO_VIP,
        "hbone 10.0.0.2:15008 10.0.0.2:1234 =one @api",
    ),
    ("VIP: TCP endpoint", (API, replace(ONE, protocol=Protocol.TCP)), TO_VIP, "tcp 10.0.0.2:8080 =one @api"),
    ("VIP: undefined port", (API, ONE), f"{VIP}:81", NO_PORT),
    ("VIP: no endpoints", (API,), TO_VIP, EMPTY),
    (
        "VIP: port that only an endpoint maps",
        (API, endpoint("one", "10.0.0.2", ports={81: 1})),
        f"{VIP}:81",
        NO_PORT,
    ),
    (
        "VIP: a tunnel serves no port that the service does not define",
        (API, replace(ONE, application_tunnel=ApplicationTunnel(TunnelKind.PROXY, 15088))),
        f"{VIP}:81",
        NO_PORT,
    ),
    (
        "VIP: named port needs the endpoint's",
        (service(ports={80: 0}), ONE, endpoint("named", "10.0.0.3", ports={80: 99})),
        TO_VIP,
        "hbone 10.0.0.3:15008 10.0.0.3:99 =named @api",
    ),
    ("VIP: unhealthy endpoints are not used", (API, SICK), TO_VIP, UNHEALTHY),
    ("VIP: unless all are admitted", (TOLERANT, SICK), TO_VIP, TO_ONE),
    ("VIP: capacity 0 is never chosen", (API, replace(ONE, capacity=0)), TO_VIP, UNHEALTHY),
    ("VIP: an endpoint without any address", (API, endpoint("none")), TO_VIP, UNHEALTHY),
    ("VIP: a host-network endpoint is chosen", (API, ON_HOST_NETWORK), TO_VIP, TO_ONE),
    (
        "VIP: of several on a node's network the service's is chosen",
        (API, replace(ON_HOST_NETWORK, uid="a", services={}), ON_HOST_NETWORK, workload("node", "10.0.0.2")),
        TO_VIP,
        TO_ONE,
    ),
    ("hostname: not known yet", (API, replace(NAMED, hostname="new.example")), TO_VIP, "resolve new.example"),
    ("hostname: the family of the VIP", (API, NAMED), TO_VIP, "hbone 192.0.2.5:15008 192.0.2.5:8080 =named @api"),
    (
        "hostname: the families of the service",
        (service(ip_families=IpFamilies.IPV6), NAMED),
        TO_VIP,
        "hbone [2001:db8::5]:15008 [2001:db8::5]:8080 =named @api",
    ),
    (
        "hostname: the other family if there is no else",
        (API, replace(NAMED, hostname="six.example")),
        TO_VIP,
        "hbone [2001:db8::6]:15008 [2001:db8::6]:8080 =named @api",
    ),
    ("hostname: without an answer", (API, replace(NAMED, hostname="nowhere.example")), TO_VIP, NO_ANSWER),
    (
        "hostname: of the wrong family only",
        (
            service(ip_families=IpFamilies.IPV4),
            replace(NAMED, hostname="six.example"),
        ),
        TO_VIP,
        "refused: no ip addresses were resolved for workload: named (six.example)",
    ),
    (
        "hostname: without HBONE, plain TCP",
        (API, replace(NAMED, protocol=Protocol.TCP)),
        TO_VIP,
        "tcp 192.0.2.5:8080 =named @api",
    ),
    ("hostname: an address wins", (API, replace(ONE, hostname="new.example")), TO_VIP, TO_ONE),
    (
        "hostname: of a waypoint",
        (service(waypoint=BY_HOSTNAME), replace(WAYPOINT, hostname="wp", addresses=())),
        TO_VIP,
        "resolve wp",
    ),
    ("VIP: private to another namespace", (PRIVATE,), TO_VIP, f"passthrough {VIP}:80"),
    ("VIP: range", (RANGE, ONE), TO_VIP, TO_ONE),
    ("VIP that is a workload's address: the service balances", (CLAIMS_ONE, ONE), "10.0.0.2:80", TO_ONE),
    (
        "VIP that is a workload's address: other ports are the workload's",
        (CLAIMS_ONE, ONE),
        "10.0.0.2:22",
        "hbone 10.0.0.2:15008 10.0.0.2:22 =one",
    ),
    ("PASSTHROUGH goes to the original address", (PASSTHROUGH, ONE), TO_VIP, f"passthrough {VIP}:80"),
    ("PASSTHROUGH ignores ports", (PASSTHROUGH,), f"{VIP}:1", f"passthrough {VIP}:1"),
    # Address families
    ("endpoint of both families: that of the VIP", (API, endpoint("one", "2001:db8::2", "10.0.0.2")), TO_VIP, TO_ONE),
    (
        "only the other family is there",
        (API, endpoint("one", "2001:db8::2")),
        TO_VIP,
        "hbone [2001:db8::2]:15008 [2001:db8::2]:8080 =one @api",
    ),
    (
        "v6-only service",
        (service(ip_families=IpFamilies.IPV6), endpoint("one", "10.0.0.2", "2001:db8::2")),
        TO_VIP,
        "hbone [2001:db8::2]:15008 [2001:db8::2]:8080 =one @api",
    ),
    (
        "v4-only service",
        (service(ip_families=IpFamilies.IPV4), endpoint("one", "2001:db8::2", "10.0.0.2")),
        TO_VIP,
        TO_ONE,
    ),
    (
        "v6-only service of a v4 endpoint",
        (service(ip_families=IpFamilies.IPV6), ONE),
        TO_VIP,
        "refused: no valid routing destination for workload: one",
    ),
    ("dual service", (service(ip_families=IpFamilies.DUAL), ONE), TO_VIP, TO_ONE),
    (
        "v6 VIP: the v6 address of an endpoint of both",
        (service(vips=(at("fd00::1"),)), endpoint("one", "10.0.0.2", "2001:db8::2")),
        "[fd00::1]:80",
        "hbone [2001:db8::2]:15008 [2001:db8::2]:8080 =one @api",
    ),
    (
        "v6 VIP: an endpoint that has v4 only",
        (service(vips=(at("fd00::1"),)), ONE),
        "[fd00::1]:80",
        TO_ONE,
    ),
    (
        "self-call through an own service",
        (API, replace(CLIENT, services={API_KEY: {}})),
        TO_VIP,
        "hbone 10.0.0.1:15008 10.0.0.1:8080 =client @api",
    ),
    (
        "self-call by an own v6 address",
        (replace(CLIENT, addresses=(parse_ip("10.0.0.1"), parse_ip("2001:db8::1"))),),
        "[2001:db8::1]:80",
        "hbone [2001:db8::1]:15008 [2001:db8::1]:80 =client",
    ),
    (
        "own listener on an own v6 address",
        (replace(CLIENT, addresses=(parse_ip("10.0.0.1"), parse_ip("2001:db8::1"))),),
        "[2001:db8::1]:15008",
        "refused: attempted recursive call to ourselves",
    ),
    # Service waypoints
    ("service waypoint by hostname", (NAMES_WAYPOINT, ONE, *WAYPOINTS), TO_VIP, VIA_WAYPOINT),
    ("service waypoint by a workload's IP", (NAMES_WAYPOINT_IP, WAYPOINT), TO_VIP, VIA_WAYPOINT),
    (
        "service waypoint by VIP",
        (service(waypoint=GatewayAddress(at("240.0.0.9"), 15008)), *WAYPOINTS),
        TO_VIP,
        VIA_WAYPOINT,
    ),
    (
        "service waypoint: port is translated",
        (NAMES_WAYPOINT, replace(WAYPOINT_SERVICE, ports={15008: 16008}), WAYPOINT),
        TO_VIP,
        f"hbone 10.0.0.9:16008 {VIP}:80 =waypoint @api",
    ),
    (
        "service waypoint by a workload's hostname",
        (service(waypoint=BY_HOSTNAME), replace(WAYPOINT, hostname="wp")),
        TO_VIP,
        f"hbone 10.0.0.9:15021 {VIP}:80 =waypoint @api",
    ),
    (
        "service waypoint: ports do not matter",
        (NAMES_WAYPOINT, *WAYPOINTS),
        f"{VIP}:1",
        f"hbone 10.0.0.9:15008 {VIP}:1 =waypoint @api",
    ),
    (
        "service waypoint wins over PASSTHROUGH",
        (replace(PASSTHROUGH, waypoint=BY_NAME), *WAYPOINTS),
        TO_VIP,
        VIA_WAYPOINT,
    ),
    ("service waypoint: health does not matter", (NAMES_WAYPOINT, SICK, *WAYPOINTS), TO_VIP, VIA_WAYPOINT),
    (
        "service waypoint: locality does not matter",
        (replace(balanced(LoadBalancingMode.STRICT, Scope.NODE), waypoint=BY_NAME), ONE, *WAYPOINTS),
        TO_VIP,
        VIA_WAYPOINT,
    ),
    ("service waypoint fails closed", (NAMES_WAYPOINT, ONE), TO_VIP, NO_WAYPOINT),
    (
        "service waypoint wins over PASSTHROUGH even if it is not there",
        (replace(PASSTHROUGH, waypoint=BY_NAME), ONE),
        TO_VIP,
        NO_WAYPOINT,
    ),
    ("service waypoint by unknown IP fails closed", (NAMES_WAYPOINT_IP, ONE), TO_VIP, NO_WAYPOINT_IP),
    ("service waypoint without endpoints fails closed", (NAMES_WAYPOINT, ONE, WAYPOINT_SERVICE), TO_VIP, DEAD_WAYPOINT),
    (
        "service waypoint without the port fails closed",
        (NAMES_WAYPOINT, replace(WAYPOINT_SERVICE, ports={80: 80}), WAYPOINT),
        TO_VIP,
        DEAD_WAYPOINT,
    ),
    (
        "service waypoint with a named port that no endpoint defines fails closed",
        (NAMES_WAYPOINT, replace(WAYPOINT_SERVICE, ports={15008: 0}), WAYPOINT),
        TO_VIP,
        DEAD_WAYPOINT,
    ),
    (
        "service waypoint with a named port: the endpoint that defines it",
        (
            NAMES_WAYPOINT,
            replace(WAYPOINT_SERVICE, ports={15008: 0}),
            replace(WAYPOINT, uid="a", addresses=(parse_ip("10.0.0.8"),)),
            replace(WAYPOINT, services={WAYPOINT_KEY: {15008: 16008}}),
        ),
        TO_VIP,
        f"hbone 10.0.0.9:16008 {VIP}:80 =waypoint @api",
    ),
    (
        "service waypoint without the port but a tunnel",
        (NAMES_WAYPOINT, replace(WAYPOINT_SERVICE, ports={}), SANDWICHED),
        TO_VIP,
        VIA_WAYPOINT,
    ),
    (
        "service waypoint on a shared address needs a port",
        (NAMES_WAYPOINT_IP, WAYPOINT, workload("other", "10.0.0.9")),
        TO_VIP,
        NO_WAYPOINT_IP,
    ),
    (
        "service waypoint is not asked for a workload's address",
        (service(vips=(at("10.0.0.2"),), waypoint=BY_NAME), ONE),
        "10.0.0.2:80",
        TO_ONE,
    ),
    (
        "weighted waypoints win over the plain one",
        (service(waypoint=BY_IP, weighted_waypoints=weights(1)), WAYPOINT_SERVICE, MOVED_WAYPOINT),
        TO_VIP,
        f"hbone 10.0.0.8:15008 {VIP}:80 =waypoint @api",
    ),
    (
        "a weight of 0 beside another is never drawn",
        (
            service(weighted_waypoints=(WeightedWaypoint(BY_NAME, 0), WeightedWaypoint(BY_IP, 100))),
            WAYPOINT,
        ),
        TO_VIP,
        VIA_WAYPOINT,
    ),
    (
        "weights of 0 fall back to the plain one",
        (service(waypoint=BY_IP, weighted_waypoints=weights(0)), WAYPOINT),
        TO_VIP,
        VIA_WAYPOINT,
    ),
    # Workload waypoints
    (
        "the waypoint of the source is none of the destination's",
        (replace(CLIENT, waypoint=BY_IP), ONE, WAYPOINT),
        "10.0.0.2:8080",
        "hbone 10.0.0.2:15008 10.0.0.2:8080 =one",
    ),
    (
        "workload waypoint",
        (replace(ONE, waypoint=BY_IP), WAYPOINT),
        "10.0.0.2:80",
        "hbone 10.0.0.9:15008 10.0.0.2:80 =waypoint",
    ),
    (
        "workload waypoint of the other family",
        (replace(SIX, waypoint=BY_IP), WAYPOINT),
        TO_SIX,
        "hbone 10.0.0.9:15008 [2001:db8::2]:80 =waypoint",
    ),
    (
        "workload waypoint by address: that one, though it has one of the destination's family",
        (replace(SIX, waypoint=BY_IP), DUAL_WAYPOINT),
        TO_SIX,
        "hbone 10.0.0.9:15008 [2001:db8::2]:80 =waypoint",
    ),
    (
        "workload waypoint by name prefers the destination's family",
        (replace(SIX, waypoint=BY_NAME), WAYPOINT_SERVICE, DUAL_WAYPOINT),
        TO_SIX,
        "hbone [2001:db8::9]:15008 [2001:db8::2]:80 =waypoint",
    ),
    (
        "workload waypoint is for workload-addressed traffic",
        (API, replace(ONE, waypoint=BY_IP), WAYPOINT),
        TO_VIP,
        TO_ONE,
    ),
    ("workload waypoint fails closed", (replace(ONE, waypoint=BY_NAME),), "10.0.0.2:80", NO_WAYPOINT),
    # Networks
    ("endpoint on another network without gateway", (API, REMOTE), TO_VIP, NO_GATEWAY),
    (
        "endpoint on another network: through its gateway, by the service's name",
        (NAMED_API, REMOTE_BEHIND_GATEWAY, GATEWAY),
        TO_VIP,
        "double 192.0.2.1:15009 api:80 =gateway @api",
    ),
    (
        "gateway by its address: that one, though it has one of the destination's family",
        (
            replace(NAMED_API, vips=(at("fd00::1"),)),
            REMOTE_BEHIND_GATEWAY,
            replace(GATEWAY, addresses=(parse_ip("2001:db8::f"), parse_ip("192.0.2.1"))),
        ),
        "[fd00::1]:80",
        "double 192.0.2.1:15009 api:80 =gateway @api",
    ),
    (
        "gateway by a service's hostname: its port is translated",
        (
            NAMED_API,
            replace(REMOTE, network_gateway=GatewayAddress(GATEWAY_KEY, 15009)),
            GATEWAY_SERVICE,
            replace(GATEWAY, services={GATEWAY_KEY: {}}),
        ),
        TO_VIP,
        "double 192.0.2.1:15008 api:80 =gateway @api",
    ),
    (
        "an unknown gateway fails closed",
        (NAMED_API, REMOTE_BEHIND_GATEWAY),
        TO_VIP,
        "refused: unknown network gateway: network gateway dc2/192.0.2.1 not found",
    ),
    (
        "a gateway service without endpoints fails closed",
        (NAMED_API, replace(REMOTE, network_gateway=GatewayAddress(GATEWAY_KEY, 15009)), GATEWAY_SERVICE),
        TO_VIP,
        "refused: unknown network gateway: network gateway infra/east-west has no healthy endpoint",
    ),
    (
        "a gateway's tunnel serves no port that its service does not define",
        (
            NAMED_API,
            replace(REMOTE, network_gateway=GatewayAddress(GATEWAY_KEY, 15009)),
            replace(GATEWAY_SERVICE, ports={}),
            replace(
                GATEWAY,
                services={GATEWAY_KEY: {}},
                application_tunnel=ApplicationTunnel(TunnelKind.PROXY, 15088),
            ),
        ),
        TO_VIP,
        "refused: unknown network gateway: network gateway infra/east-west has no healthy endpoint",
    ),
    (
        "nobody is believed beyond a gateway without the service's names",
        (API, REMOTE_BEHIND_GATEWAY, GATEWAY),
        TO_VIP,
        NAMELESS.format("shop/api"),
    ),
    (
        "waypoint on another network: through its gateway",
        (NAMES_WAYPOINT, replace(WAYPOINT_SERVICE, subject_alt_names=SANS), REMOTE_WAYPOINT, GATEWAY),
        TO_VIP,
        "double 192.0.2.1:15009 api:80 =gateway @api",
    ),
    (
        "waypoint on another network without names",
        (NAMES_WAYPOINT, WAYPOINT_SERVICE, REMOTE_WAYPOINT, GATEWAY),
        TO_VIP,
        NAMELESS.format("infra/waypoint"),
    ),
    (
        "a workload's waypoint on another network: no service to name",
        (replace(ONE, waypoint=BY_NAME), WAYPOINT_SERVICE, REMOTE_WAYPOINT, GATEWAY),
        "10.0.0.2:80",
        "refused: no service for target address: 10.0.0.2:80",
    ),
    (
        "the local endpoint is preferred",
        (
            replace(balanced(LoadBalancingMode.FAILOVER, Scope.NETWORK), subject_alt_names=SANS),
            ONE,
            REMOTE_BEHIND_GATEWAY,
            GATEWAY,
        ),
        TO_VIP,
        TO_ONE,
    ),
    (
        "the remote one takes over when the local one is sick",
        (
            replace(balanced(LoadBalancingMode.FAILOVER, Scope.NETWORK), subject_alt_names=SANS),
            SICK,
            REMOTE_BEHIND_GATEWAY,
            GATEWAY,
        ),
        TO_VIP,
        "double 192.0.2.1:15009 api:80 =gateway @api",
    ),
    (
        "workload-addressed on another network",
        (service(vips=(at("10.0.0.3"),)), workload("here", "10.0.0.3"), REMOTE),
        "10.0.0.3:80",
        "refused: no service for target address: 10.0.0.3:80",
    ),
]


@pytest.mark.parametrize(
    ("rule", "resources", "destination", "expected"), RULES, ids=[line[0].replace(" ", "-") for line in RULES]
)
def test_rules(rule: str, resources: tuple[Resource, ...], destination: str, expected: str) -> None:
    """Where it goes, with which authority, to whom."""
    assert told(ask(resources, destination)) == expected


def test_hbone_asks_for_the_workload_by_name_and_expects_its_identity() -> None:
    """Several workloads may answer at one address: the TLS server name says which is meant."""
    answer = ask((ONE,), "10.0.0.2:8080")
    assert isinstance(answer, Route)
    assert answer.server_name == server_name("one")
    assert answer.expected == (ONE.identity,)
    plain = ask((replace(ONE, protocol=Protocol.TCP),), "10.0.0.2:8080")
    assert isinstance(plain, Route)
    assert (plain.server_name, plain.authority, plain.expected) == (None, None, ())


def test_names_of_the_service_are_expected_first_and_in_order() -> None:
    """Those that are no SPIFFE ids are dropped; the workload's own comes last, and once."""
    names = ("spiffe://td/ns/z/sa/z", "api.example", str(ONE.identity), "spiffe://td/ns/a/sa/a")
    answer = ask((service(subject_alt_names=names), ONE), f"{VIP}:80")
    assert isinstance(answer, Route)
    assert answer.expected == (Identity("td", "z", "z"), ONE.identity, Identity("td", "a", "a"))


def test_a_waypoint_is_expected_by_its_own_service_not_the_destinations() -> None:
    """The next hop is who must prove itself."""
    resources = (
        service(waypoint=BY_NAME, subject_alt_names=("spiffe://td/ns/api/sa/api",)),
        replace(WAYPOINT_SERVICE, subject_alt_names=("spiffe://td/ns/wp/sa/wp",)),
        WAYPOINT,
    )
    answer = ask(resources, f"{VIP}:80")
    assert isinstance(answer, Route)
    assert answer.expected == (Identity("td", "wp", "wp"), WAYPOINT.identity)
    assert answer.server_name == server_name("waypoint")


@pytest.mark.parametrize("waypoint", [BY_NAME, BY_IP, GatewayAddress(at("240.0.0.9"), 15008)], ids=str)
def test_a_waypoint_reaches_its_workloads_directly(waypoint: GatewayAddress) -> None:
    """Otherwise it would call itself for ever."""
    state = mesh(replace(ONE, waypoint=waypoint), WAYPOINT_SERVICE, WAYPOINT)
    destination = SocketAddress.parse("10.0.0.2:80")
    answer = route(state, WAYPOINT, destination, network="", rng=lambda: 0.0)
    assert told(answer) == "hbone 10.0.0.2:15008 10.0.0.2:80 =one"


def test_a_neighbour_of_a_waypoint_is_not_taken_for_it() -> None:
    """A workload on the waypoint's host shares its address, not its right to go around it."""
    state = mesh(replace(ONE, waypoint=BY_IP), replace(WAYPOINT, services={WAYPOINT_KEY: {15008: 15008}}))
    neighbour = workload("neighbour", "10.0.0.9")
    state.upsert_workload(neighbour)
    answer = route(state, neighbour, SocketAddress.parse("10.0.0.2:80"), network="", rng=lambda: 0.0)
    assert told(answer) == "hbone 10.0.0.9:15008 10.0.0.2:80 =waypoint"


def shares(resources: tuple[Resource, ...], count: int = 2000) -> dict[str, float]:
    rng, state = Random(7), mesh(*resources)
    counts: Counter[str] = Counter()
    for _ in range(count):
        answer = route(state, CLIENT, SocketAddress.parse(f"{VIP}:80"), network="", rng=rng.random)
        assert isinstance(answer, Route)
        assert answer.workload is not None
        counts[answer.workload.uid] += 1
    return {uid: round(hits / count, 1) for uid, hits in counts.items()}


def test_endpoints_are_drawn_by_capacity() -> None:
    """Weighted at random; 0 never."""
    endpoints = [endpoint(uid, f"10.0.1.{n}", capacity=n) for n, uid in enumerate(("never", "one", "two", "three"))]
    assert shares((API, *endpoints)) == pytest.approx({"one": 1 / 6, "two": 2 / 6, "three": 3 / 6}, abs=0.07)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((75, 25), {"waypoint": 0.75, "other": 0.25}), ((100, 0), {"waypoint": 1}), ((0, 100), {"other": 1})],
    ids=str,
)
def test_waypoints_are_drawn_by_weight(weights: tuple[int, int], expected: dict[str, float]) -> None:
    """75 to 25; what weighs nothing never."""
    other_key = NamespacedHostname("infra", "other")
    destinations = BY_NAME, GatewayAddress(other_key, 15008)
    resources = (
        service(weighted_waypoints=tuple(map(WeightedWaypoint, destinations, weights))),
        WAYPOINT_SERVICE,
        WAYPOINT,
        service("other", namespace="infra", vips=(), ports={15008: 15008}),
        workload("other", "10.0.0.8", namespace="infra", services={other_key: {}}),
    )
    assert shares(resources) == pytest.approx(expected, abs=0.07)


CACHEABLE: list[tuple[str, tuple[Resource, ...], str, bool]] = [
    ("passthrough", (), "198.51.100.7:443", True),
    ("workload", (ONE,), "10.0.0.2:80", True),
    ("only endpoint", (API, ONE), f"{VIP}:80", True),
    ("only endpoint of positive capacity", (API, ONE, endpoint("b", "10.0.0.3", capacity=0)), f"{VIP}:80", True),
    ("several endpoints", (API, ONE, endpoint("b", "10.0.0.3")), f"{VIP}:80", False),
    (
        "several TCP endpoints",
        (API, endpoint("a", "10.0.0.2", protocol=Protocol.TCP), endpoint("b", "10.0.0.3", protocol=Protocol.TCP)),
        f"{VIP}:80",
        False,
    ),
    ("only waypoint", (service(waypoint=BY_IP), WAYPOINT), f"{VIP}:80", True),
    (
        "several endpoints of a waypoint",
        (service(waypoint=BY_NAME), WAYPOINT_SERVICE, WAYPOINT, replace(WAYPOINT, uid="w2")),
        f"{VIP}:80",
        False,
    ),
    (
        "several waypoints",
        (service(weighted_waypoints=(WeightedWaypoint(BY_IP, 1), WeightedWaypoint(BY_IP, 1))), WAYPOINT),
        f"{VIP}:80",
        False,
    ),
    ("workload waypoint", (replace(ONE, waypoint=BY_IP), WAYPOINT), "10.0.0.2:80", True),
    ("endpoint with a hostname", (API, NAMED), f"{VIP}:80", False),
    (
        "waypoint with a hostname",
        (
            service(waypoint=GatewayAddress(NamespacedHostname("infra", "db.example"), 15021)),
            replace(WAYPOINT, hostname="db.example", addresses=()),
        ),
        f"{VIP}:80",
        False,
    ),
    (
        "gateway with a hostname",
        (
            NAMED_API,
            replace(REMOTE, network_gateway=GatewayAddress(NamespacedHostname("infra", "db.example"), 15009)),
            replace(GATEWAY, hostname="db.example", addresses=()),
        ),
        f"{VIP}:80",
        False,
    ),
    ("only endpoint behind a gateway", (NAMED_API, REMOTE_BEHIND_GATEWAY, GATEWAY), f"{VIP}:80", True),
]


@pytest.mark.parametrize(
    ("rule", "resources", "destination", "cacheable"), CACHEABLE, ids=[line[0].replace(" ", "-") for line in CACHEABLE]
)
def test_a_route_is_cacheable_when_nothing_was_drawn(
    rule: str, resources: tuple[Resource, ...], destination: str, cacheable: bool
) -> None:
    """The random source must not even be asked for such a route."""
    draws: list[float] = []

    def rng() -> float:
        draws.append(0.5)
        return 0.5

    answer = ask(resources, destination, rng)
    assert isinstance(answer, Route)
    assert answer.cacheable is cacheable
    assert bool(draws) is not cacheable


def test_an_answer_follows_the_state() -> None:
    """What was derived for balancing is forgotten with the next change."""
    state = mesh(API, ONE)
    destination = SocketAddress.parse(f"{VIP}:80")

    def now() -> str:
        return told(route(state, CLIENT, destination, network="", rng=lambda: 0.0))

    assert now() == "hbone 10.0.0.2:15008 10.0.0.2:8080 =one @api"
    state.remove_address("one")
    assert now() == EMPTY
    state.upsert_workload(endpoint("two", "10.0.0.3"))
    assert now() == "hbone 10.0.0.3:15008 10.0.0.3:8080 =two @api"
    state.remove_address("shop/api")
    assert now() == f"passthrough {VIP}:80"


def test_service_waypoints_are_looked_up_on_the_hosts_network() -> None:
    """Everything else is looked up on the source's; operators keep the two equal."""
    elsewhere = service(vips=(NetworkAddress("dc1", parse_ip(VIP)),), waypoint=BY_NAME)
    state, destination = mesh(elsewhere, *WAYPOINTS), SocketAddress.parse(TO_VIP)
    answers = [told(route(state, CLIENT, destination, network=of, rng=lambda: 0.0)) for of in ("dc1", "")]
    assert answers == [VIA_WAYPOINT, f"passthrough {VIP}:80"]


def test_beyond_a_gateway_only_the_services_names_may_answer() -> None:
    """The gateway is expected by its own identity, the peer inside by the service's names and nothing else."""
    found = ask((NAMED_API, REMOTE_BEHIND_GATEWAY, GATEWAY), TO_VIP)
    assert isinstance(found, Route)
    assert found.expected == (GATEWAY.identity,)
    assert found.inner == (Identity.parse(SANS[0]),)


OWN_PORTS = endpoint("one", "10.0.0.2", ports={80: 9090})
HOSTS: list[tuple[str, tuple[Resource, ...], str, bool]] = [
    ("a registered port is the workload's", (API, ONE), "10.0.0.2:8080", False),
    ("so is one of its own port map", (API, OWN_PORTS), "10.0.0.2:9090", False),
    ("a port that nobody has registered may be the host's", (API, ONE), "10.0.0.2:22", True),
    ("so may every port of a workload that registers none", (workload("x", "10.0.0.2"),), "10.0.0.2:80", True),
    ("a pod has its address to itself", (workload("k//Pod/shop/p", "10.0.0.2"),), "10.0.0.2:22", False),
    ("a service's port is the workload's", (API, ONE), TO_VIP, False),
    ("behind a waypoint nobody is asked", (replace(ONE, waypoint=BY_IP), WAYPOINT), "10.0.0.2:22", False),
]


@pytest.mark.parametrize(("rule", "resources", "destination", "asked"), HOSTS, ids=[line[0] for line in HOSTS])
def test_only_the_host_knows_whose_an_unregistered_port_is(
    rule: str, resources: tuple[Resource, ...], destination: str, asked: bool
) -> None:
    """Always HBONE first; only for such a port may the answer let the connection pass through."""
    found = ask(resources, destination)
    assert isinstance(found, Route)
    assert (found.kind, found.or_host) == ("hbone", asked)


REGISTRY_ONLY: list[tuple[str, tuple[Resource, ...], str, str]] = [
    ("nobody's address", (), "198.51.100.7:443", "refused"),
    ("another network's address", (workload("far", "10.0.0.5", network="dc2"),), "10.0.0.5:80", "refused"),
    ("a workload", (ONE,), "10.0.0.2:8080", "hbone"),
    ("a workload without HBONE", (replace(ONE, protocol=Protocol.TCP),), "10.0.0.2:8080", "tcp"),
    ("a service", (API, ONE), TO_VIP, "hbone"),
    ("a service that is only passed through to", (PASSTHROUGH,), TO_VIP, "passthrough"),
    ("an unregistered port of a host", (API, ONE), "10.0.0.2:22", "hbone"),
]


@pytest.mark.parametrize(
    ("rule", "resources", "destination", "expected"), REGISTRY_ONLY, ids=[line[0] for line in REGISTRY_ONLY]
)
def test_registry_only(rule: str, resources: tuple[Resource, ...], destination: str, expected: str) -> None:
    """What the mesh does not know is refused, never passed through; nor does a host's word let it pass."""
    address = SocketAddress.parse(destination)
    found = route(mesh(*resources), CLIENT, address, network="", rng=lambda: 0.0, registry_only=True)
    if expected == "refused":
        assert isinstance(found, Refused)
        assert found.reason == f"outboundTrafficPolicy is REGISTRY_ONLY, and nobody in the mesh has {destination}"
    else:
        assert isinstance(found, Route)
        assert (found.kind, found.or_host) == (expected, False)


def test_neighbours_are_asked_in_order() -> None:
    """Who registers no ports first; each at most once, and none that does not speak HBONE."""
    plain = replace(workload("plain", "10.0.0.2"), protocol=Protocol.TCP)
    found = ask((API, ONE, workload("z", "10.0.0.2"), NEIGHBOUR, plain), "10.0.0.2:22")
    asked = []
    while isinstance(found, Route):
        assert found.workload is not None
        asked.append(found.workload.uid)
        found = found.following  # type: ignore[assignment]
    assert asked == ["z", "b", "one"]


def test_a_host_of_many_workloads_is_not_asked_for_ever() -> None:
    """Each answer is a round trip that the application waits for."""
    found = ask(tuple(workload(f"w{number}", "10.0.0.2") for number in range(MAX_ASKED + 2)), "10.0.0.2:22")
    asked = 0
    while isinstance(found, Route):
        asked += 1
        found = found.following  # type: ignore[assignment]
    assert asked == MAX_ASKED


def test_on_demand_nothing_is_decided_about_an_address_before_all_is_known_of_it() -> None:
    """A part is not the whole: a neighbour at the same address, a waypoint that nobody has asked for."""
    state, caller = MeshState(), workload("caller", "10.0.0.1")
    state.follow_on_demand()
    state.upsert_workload(workload("near", "10.0.0.5"))

    def to(ip: str, **fields: Any) -> Route | Refused | Unresolved | Unknown:
        source = replace(caller, **fields)
        return route(state, source, SocketAddress.of(ip, 80), network="", rng=lambda: 0.0)

    assert to("10.0.0.5") == Unknown("/10.0.0.5")
    state.learn("/10.0.0.5")
    found = to("10.0.0.5")
    assert isinstance(found, Route)
    assert found.kind == "hbone"
    assert to("10.0.0.5", network="far") == Unknown("far/10.0.0.5")
    assert to("10.0.0.6") == Unknown("/10.0.0.6")
    state.learn("/10.0.0.6")
    assert to("10.0.0.6") == Route("passthrough", SocketAddress.of("10.0.0.6", 80))
    state.forget("/10.0.0.6")
    assert to("10.0.0.6") == Unknown("/10.0.0.6")

    state.upsert_service(service(waypoint=BY_NAME))
    state.learn(f"/{VIP}")
    assert to(VIP) == Unknown(str(WAYPOINT_KEY))
    state.learn(str(WAYPOINT_KEY))
    assert isinstance(to(VIP), Refused)
