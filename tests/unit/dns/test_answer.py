"""What names resolve to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostmesh.dns.answer import Client, Resolved, resolve
from hostmesh.model.address import NamespacedHostname, NetworkAddress, parse_ip
from hostmesh.model.service import IpFamilies, Service, Visibility
from hostmesh.model.workload import HealthStatus, Workload
from hostmesh.state.store import MeshState

DOMAIN = "cluster.local"
CLIENT = Client("prod", "lab")


def vips(*texts: str, network: str = "lab") -> tuple[NetworkAddress, ...]:
    return tuple(NetworkAddress(network, parse_ip(text)) for text in texts)


WEB = Service("web", "prod", "web.prod.svc.cluster.local", vips("240.240.0.1", "2001:2::1"))
API = Service("api", "shop", "api.example.com", vips("240.240.0.2"))
ANY = Service("any", "shop", "*.wild.example.com", vips("240.240.0.3"))
DATABASE = Service("db", "prod", "db.prod.svc.cluster.local")
BARE = Service("bare", "prod", "bare.example.com")


def workload(number: int, service: Service = DATABASE, **more: object) -> Workload:
    made = Workload(
        f"uid{number}",
        f"w{number}",
        "prod",
        (parse_ip(f"10.0.0.{number}"), parse_ip(f"fd00::{number}")),
        services={NamespacedHostname(service.namespace, service.hostname): {}},
    )
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture
def state() -> MeshState:
    made = MeshState()
    for service in (WEB, API, ANY, DATABASE, BARE):
        made.upsert_service(service)
    for number in (1, 2):
        made.upsert_workload(workload(number))
    made.upsert_workload(workload(3, status=HealthStatus.UNHEALTHY))
    return made


def found(state: MeshState, name: str, version: int = 4, client: Client = CLIENT, *, ipv6: bool = True) -> list[str]:
    resolved = resolve(state, client, name, version, domain=DOMAIN, ipv6=ipv6)
    return ["nobody's"] if resolved is None else [str(ip) for ip in resolved.addresses]


@pytest.mark.parametrize("name", ["web.prod.svc.cluster.local", "web.prod.svc", "web.prod", "web"])
def test_names_of_a_service(state: MeshState, name: str) -> None:
    """The whole name and what is short for it, each family its own address."""
    assert found(state, name) == ["240.240.0.1"]
    assert found(state, name, 6) == ["2001:2::1"]


def test_short_names_are_of_the_client_s_namespace(state: MeshState) -> None:
    """From elsewhere the namespace must be said."""
    elsewhere = Client("shop", "lab")
    assert found(state, "web", client=elsewhere) == ["nobody's"]
    assert found(state, "web.prod", client=elsewhere) == ["240.240.0.1"]


def test_search_domains_lead_to_an_alias(state: MeshState) -> None:
    """A name with a search domain behind it is answered, and said to be another name."""
    resolved = resolve(state, CLIENT, "api.example.com.prod.svc.cluster.local", 4, domain=DOMAIN)
    assert resolved == Resolved("shop/api.example.com", (parse_ip("240.240.0.2"),), "api.example.com")


def test_wildcards(state: MeshState) -> None:
    """Any name below, of the service that says most about it; without an alias."""
    assert found(state, "a.b.wild.example.com") == ["240.240.0.3"]
    state.upsert_service(Service("more", "shop", "*.b.wild.example.com", vips("240.240.0.4")))
    assert found(state, "a.b.wild.example.com") == ["240.240.0.4"]
    assert found(state, "b.wild.example.com") == ["240.240.0.3"]
    assert found(state, "wild.example.com") == ["nobody's"]
    resolved = resolve(state, CLIENT, "x.wild.example.com.svc.cluster.local", 4, domain=DOMAIN)
    assert resolved is not None
    assert resolved.alias == ""


def test_without_an_address_of_its_own(state: MeshState) -> None:
    """Healthy endpoints are the answer, for names of the cluster only."""
    assert sorted(found(state, "db")) == ["10.0.0.1", "10.0.0.2"]
    assert sorted(found(state, "db.prod.svc.cluster.local", 6)) == ["fd00::1", "fd00::2"]
    state.upsert_workload(workload(1, addresses=(parse_ip("fd00::1"), parse_ip("fd00::9"))))
    assert (found(state, "db"), sorted(found(state, "db", 6))) == (["10.0.0.2"], ["fd00::1", "fd00::2"])
    assert found(state, "bare.example.com") == ["nobody's"]


def test_a_service_without_that_family(state: MeshState) -> None:
    """The name is known and has no such address: nothing to ask others about."""
    assert found(state, "api.example.com", 6) == []
    assert found(state, "web", 6, ipv6=False) == []
    state.upsert_service(replace(WEB, ip_families=IpFamilies.IPV4))
    assert found(state, "web", 6) == []


def test_of_two_services_of_one_name_the_clients_own_is_meant(state: MeshState) -> None:
    """Elsewhere the canonical one."""
    state.upsert_service(replace(API, namespace="prod", vips=vips("240.240.0.7")))
    state.upsert_service(replace(API, namespace="other", vips=vips("240.240.0.8"), canonical=True))
    asked = {of: found(state, "api.example.com", client=Client(of, "lab")) for of in ("prod", "shop", "third")}
    assert asked == {"prod": ["240.240.0.7"], "shop": ["240.240.0.2"], "third": ["240.240.0.8"]}


def test_addresses_of_other_networks_are_no_answer(state: MeshState) -> None:
    """They lead nowhere from here."""
    assert found(state, "web", client=Client("prod", "far")) == []


def test_hidden_services(state: MeshState) -> None:
    """A service that its namespace keeps to itself is nobody's elsewhere."""
    state.upsert_service(replace(API, visibility=Visibility.NAMESPACE))
    assert found(state, "api.example.com") == ["nobody's"]
    assert found(state, "api.example.com", client=Client("shop", "lab")) == ["240.240.0.2"]


@pytest.mark.parametrize("name", ["w1", "example.org", "web.prod.svc.cluster.local.evil", "", "cluster.local"])
def test_other_names_are_nobody_s(state: MeshState, name: str) -> None:
    """Among them those of workloads."""
    assert found(state, name) == ["nobody's"]
