"""One line for each rule of where a CONNECT is delivered and which service it counts for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress, SocketAddress, parse_ip
from hostmesh.model.service import Service, Visibility, WeightedWaypoint
from hostmesh.model.workload import ApplicationTunnel, Protocol, TunnelKind, Workload
from hostmesh.proxy.destination import Declined, Destination, local_service, validate_destination
from hostmesh.state.store import MeshState

KEY = NamespacedHostname("shop", "api.example")
WAYPOINT_KEY = NamespacedHostname("infra", "waypoint")
BY_NAME = GatewayAddress(WAYPOINT_KEY, 15008)
BY_IP = GatewayAddress(NetworkAddress("", parse_ip("10.0.0.7")), 15008)
BY_IP_OF_OTHER = GatewayAddress(NetworkAddress("", parse_ip("10.0.0.2")), 15008)


def at(text: str) -> NetworkAddress:
    return NetworkAddress("", parse_ip(text))


def service(hostname: str = "api.example", **fields: Any) -> Service:
    return Service(**({"name": hostname, "namespace": "shop", "hostname": hostname, "ports": {80: 8080}} | fields))


LOCAL = Workload(
    uid="local",
    name="local",
    namespace="shop",
    addresses=(parse_ip("10.0.0.7"), parse_ip("2001:db8::7")),
    protocol=Protocol.HBONE,
    services={KEY: {}},
)
NEIGHBOUR = replace(LOCAL, uid="neighbour", services={})
AS_WAYPOINT = replace(LOCAL, services={WAYPOINT_KEY: {}})
WAYPOINT_SERVICE = service("waypoint", namespace="infra", ports={15008: 15008})
OTHER = Workload(uid="other", name="other", namespace="shop", addresses=(parse_ip("10.0.0.2"),))
API, VIP = service(), at("240.0.0.1")


def tunnelled(kind: TunnelKind, port: int | None = None) -> Workload:
    return replace(LOCAL, application_tunnel=ApplicationTunnel(kind, port))


Resource = Workload | Service


def mesh(local: Workload, *resources: Resource) -> MeshState:
    state = MeshState()
    for resource in (local, *resources):
        if isinstance(resource, Workload):
            state.upsert_workload(resource)
        else:
            state.upsert_service(resource)
    return state


def told(answer: Destination | Declined) -> str:
    if isinstance(answer, Declined):
        return f"{answer.status} {answer.reason}"
    words = [str(answer.address)]
    words += [f"via {answer.connect}"] if answer.connect != answer.address else []
    words += [f"for {answer.proxied}"] if answer.proxied is not None else []
    words += [f"@{answer.service.hostname}"] if answer.service is not None else []
    return " ".join(words)


RECURSION = "503 attempted recursive call to ourselves"
MISMATCH = "400 ip mismatch: 10.0.0.7 != 10.0.0.2"
RULES: list[tuple[str, Workload, tuple[Resource, ...], str, str]] = [
    # Addresses
    ("own address", LOCAL, (), "10.0.0.7:8080", "10.0.0.7:8080"),
    ("mapped own address", LOCAL, (), "[::ffff:10.0.0.7]:8080", "10.0.0.7:8080"),
    ("another address", LOCAL, (OTHER,), "10.0.0.2:80", MISMATCH),
    ("another address of this workload", LOCAL, (), "[2001:db8::7]:80", "400 ip mismatch: 10.0.0.7 != 2001:db8::7"),
    ("an unknown address", LOCAL, (), "10.0.0.2:80", MISMATCH),
    ("into the proxy itself", LOCAL, (), "10.0.0.7:15008", RECURSION),
    ("into the proxy's plaintext listener", LOCAL, (), "10.0.0.7:15006", RECURSION),
    # Sandwiched applications
    ("any tunnel: any address", tunnelled(TunnelKind.NONE), (), "10.0.0.2:80", "10.0.0.7:80"),
    ("a tunnel's port", tunnelled(TunnelKind.NONE, 15088), (), "10.0.0.2:80", "10.0.0.7:15088"),
    (
        "PROXY goes to loopback with the authority",
        tunnelled(TunnelKind.PROXY, 15088),
        (),
        "10.0.0.2:80",
        "10.0.0.7:15088 via 127.0.0.1:15088 for 10.0.0.2:80",
    ),
    ("a tunnel into the proxy", tunnelled(TunnelKind.NONE, 15001), (), "10.0.0.2:80", RECURSION),
    # Waypoints
    (
        "waypoint of a service",
        AS_WAYPOINT,
        (WAYPOINT_SERVICE, service(vips=(VIP,), waypoint=BY_NAME)),
        "240.0.0.1:80",
        "10.0.0.7:80",
    ),
    (
        "waypoint of a workload",
        AS_WAYPOINT,
        (WAYPOINT_SERVICE, replace(OTHER, waypoint=BY_NAME)),
        "10.0.0.2:80",
        "10.0.0.7:80",
    ),
    (
        "one of several waypoints of a service",
        AS_WAYPOINT,
        (
            WAYPOINT_SERVICE,
            service(vips=(VIP,), waypoint=BY_IP_OF_OTHER, weighted_waypoints=(WeightedWaypoint(BY_NAME, 1),)),
        ),
        "240.0.0.1:80",
        "10.0.0.7:80",
    ),
    (
        "waypoint of a service that only its own namespace sees",
        AS_WAYPOINT,
        (WAYPOINT_SERVICE, service(vips=(VIP,), waypoint=BY_NAME, visibility=Visibility.NAMESPACE)),
        "240.0.0.1:80",
        "10.0.0.7:80",
    ),
    (
        "waypoint: an address of its own network is meant",
        replace(AS_WAYPOINT, network="dc2"),
        (WAYPOINT_SERVICE, replace(OTHER, waypoint=BY_NAME), replace(OTHER, uid="far", network="dc2")),
        "10.0.0.2:80",
        MISMATCH,
    ),
    ("waypoint by address", LOCAL, (replace(OTHER, waypoint=BY_IP),), "10.0.0.2:80", "10.0.0.7:80"),
    ("waypoint of another", LOCAL, (WAYPOINT_SERVICE, replace(OTHER, waypoint=BY_NAME)), "10.0.0.2:80", MISMATCH),
    (
        "a workload's waypoint is asked, not that of a service on its address",
        AS_WAYPOINT,
        (WAYPOINT_SERVICE, OTHER, service(vips=(at("10.0.0.2"),), waypoint=BY_NAME)),
        "10.0.0.2:80",
        MISMATCH,
    ),
    # Hostnames
    ("service by hostname", LOCAL, (API,), "api.example:80", "10.0.0.7:8080 @api.example"),
    (
        "own port map",
        replace(LOCAL, services={KEY: {80: 9090}}),
        (API,),
        "api.example:80",
        "10.0.0.7:9090 @api.example",
    ),
    ("need not be an endpoint", NEIGHBOUR, (API,), "api.example:80", "10.0.0.7:8080 @api.example"),
    ("unknown hostname", LOCAL, (), "api.example:80", "503 no service or workload for hostname: api.example"),
    (
        "hostnames are compared exactly",
        LOCAL,
        (API,),
        "API.example:80",
        "503 no service or workload for hostname: API.example",
    ),
    (
        "not visible from here",
        LOCAL,
        (service(namespace="other", visibility=Visibility.NAMESPACE),),
        "api.example:80",
        "503 no service or workload for hostname: api.example",
    ),
    (
        "the own namespace's service goes first",
        LOCAL,
        (service(namespace="other", ports={80: 1}), API),
        "api.example:80",
        "10.0.0.7:8080 @api.example",
    ),
    (
        "undefined port",
        LOCAL,
        (API,),
        "api.example:81",
        "503 requested service api.example:81 found, but cannot resolve port",
    ),
    (
        "named port without own map",
        LOCAL,
        (service(ports={80: 0}),),
        "api.example:80",
        "503 requested service api.example:80 found, but cannot resolve port",
    ),
    (
        "named port with own map",
        replace(LOCAL, services={KEY: {80: 9090}}),
        (service(ports={80: 0}),),
        "api.example:80",
        "10.0.0.7:9090 @api.example",
    ),
    ("target is the proxy", LOCAL, (service(ports={80: 15001}),), "api.example:80", RECURSION),
    (
        "PROXY carries the VIP, own network and IPv4 first",
        tunnelled(TunnelKind.PROXY),
        (service(vips=(NetworkAddress("dc2", parse_ip("240.0.0.2")), at("2001:db8::1"), VIP)),),
        "api.example:80",
        "10.0.0.7:8080 via 127.0.0.1:8080 for 240.0.0.1:80 @api.example",
    ),
    (
        "PROXY without a VIP",
        tunnelled(TunnelKind.PROXY),
        (API,),
        "api.example:80",
        "503 requested service api.example found, but has no IP addresses",
    ),
    # Neither
    (
        "no port",
        LOCAL,
        (API,),
        "api.example",
        "400 no valid authority pseudo header: 'api.example' is neither ip:port nor host:port",
    ),
    (
        "port out of range",
        LOCAL,
        (API,),
        "api.example:65536",
        "400 no valid authority pseudo header: 'api.example:65536' is neither ip:port nor host:port",
    ),
    (
        "IPv6 without brackets",
        LOCAL,
        (),
        "2001:db8::7:80",
        "400 no valid authority pseudo header: '2001:db8::7:80' is neither ip:port nor host:port",
    ),
    (
        "user info",
        LOCAL,
        (API,),
        "a@api.example:80",
        "400 no valid authority pseudo header: 'a@api.example:80' is neither ip:port nor host:port",
    ),
    ("empty", LOCAL, (), "", "400 no valid authority pseudo header: '' is neither ip:port nor host:port"),
]


@pytest.mark.parametrize(
    ("rule", "local", "resources", "authority", "expected"), RULES, ids=[line[0].replace(" ", "-") for line in RULES]
)
def test_rules(rule: str, local: Workload, resources: tuple[Resource, ...], authority: str, expected: str) -> None:
    """What an authority means to the workload `local` on 10.0.0.7."""
    state = mesh(local, *resources)
    assert told(validate_destination(state, local, authority, parse_ip("10.0.0.7"))) == expected


def test_delivery_keeps_the_family_of_the_connection() -> None:
    """The authority contributes the port only."""
    local = tunnelled(TunnelKind.PROXY, 15088)
    answer = validate_destination(mesh(local), local, "10.0.0.2:80", parse_ip("2001:db8::7"))
    assert told(answer) == "[2001:db8::7]:15088 via [::1]:15088 for 10.0.0.2:80"


@given(st.text(max_size=30) | st.from_regex(r"[\[\]a-z0-9.:]{1,20}"))
def test_any_authority_is_answered(authority: str) -> None:
    """Peers choose the text: nothing they write may raise, nor lead anywhere but to this address."""
    answer = validate_destination(mesh(LOCAL, API), LOCAL, authority, parse_ip("10.0.0.7"))
    assert isinstance(answer, Declined) or answer.connect.ip == parse_ip("10.0.0.7")


SECOND = NamespacedHostname("shop", "second.example")
BOTH = replace(LOCAL, services={KEY: {}, SECOND: {80: 9090}})
LABELS = [
    ("the port's", LOCAL, (API,), 8080, None, "api.example"),
    ("the forwarded host's", BOTH, (API, service("second.example")), 8080, "second.example", "second.example"),
    ("a forwarded host that is none of ours", BOTH, (API, service("x.example")), 8080, "x.example", "api.example"),
    ("own port map", BOTH, (API, service("second.example")), 9090, None, "second.example"),
    (
        "the first of several",
        replace(LOCAL, services={KEY: {}, SECOND: {}}),
        (API, service("second.example")),
        8080,
        None,
        "api.example",
    ),
    ("port of none", LOCAL, (API,), 22, None, None),
    ("a service port is no application port", LOCAL, (API,), 80, None, None),
    ("a service that is not known yet", LOCAL, (), 8080, None, None),
    ("no services", NEIGHBOUR, (API,), 8080, "api.example", None),
]


@pytest.mark.parametrize(
    ("rule", "local", "resources", "port", "forwarded", "expected"), LABELS, ids=[line[0] for line in LABELS]
)
def test_the_service_that_a_connection_counts_for(
    rule: str, local: Workload, resources: tuple[Resource, ...], port: int, forwarded: str | None, expected: str | None
) -> None:
    """Only services of the local workload are candidates."""
    found = local_service(mesh(local, *resources), local, port, forwarded)
    assert (found.hostname if found is not None else None) == expected


def test_addresses_are_values() -> None:
    """What policies judge and what is dialled are one unless a tunnel says otherwise."""
    answer = validate_destination(mesh(LOCAL), LOCAL, "10.0.0.7:80", parse_ip("10.0.0.7"))
    expected = SocketAddress.parse("10.0.0.7:80")
    assert answer == Destination(address=expected, connect=expected)
