"""Whatever of HTTP a policy asks for: agents never deny less than a DENY says, nor allow more than an ALLOW does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.documents import document, objects, refusals

from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.read import of_kind
from hostmesh.control.translate.policies import authorizations
from hostmesh.model.address import SocketAddress
from hostmesh.model.connection import Connection
from hostmesh.model.identity import Identity
from hostmesh.rbac.decide import matches

Fields = Mapping[str, Sequence[str]]

NAMESPACES, IPS, PORTS = ("n", "m"), ("10.0.0.1", "10.0.0.2"), ("80", "81")
PRINCIPALS = tuple(f"cluster.local/ns/{namespace}/sa/s" for namespace in NAMESPACES)

L4_SOURCE = {"principals": PRINCIPALS, "namespaces": NAMESPACES, "ipBlocks": IPS}
L7_SOURCE = {"requestPrincipals": ("i/s", "*"), "remoteIpBlocks": IPS}
L4_OPERATION = {"ports": PORTS}
L7_OPERATION = {"hosts": ("h",), "methods": ("GET",), "paths": ("/a",)}
L4_KEYS = {"source.principal": PRINCIPALS, "source.namespace": NAMESPACES, "source.ip": IPS, "destination.port": PORTS}
L7_KEYS = {"request.headers[x]": ("v",), "request.auth.claims[g]": ("v",), "request.auth.principal": ("i/s",)}
L7_KEYS |= {"remote.ip": IPS, "connection.sni": ("h",)}
HTTP = {*L7_SOURCE, *L7_OPERATION, *L7_KEYS}


def some_of(pool: Mapping[str, Sequence[str]]) -> st.SearchStrategy[Fields]:
    """One or two fields; each may be a negation."""
    one = st.sampled_from([*pool]).flatmap(
        lambda name: st.tuples(
            st.sampled_from([name, f"not{name[0].upper()}{name[1:]}"]),
            st.lists(st.sampled_from(pool[name]), min_size=1, max_size=1),
        )
    )
    return st.lists(one, min_size=1, max_size=2).map(dict)


@st.composite
def conditions(draw: st.DrawFn) -> Mapping[str, Any]:
    key = draw(st.sampled_from([*L4_KEYS, *L7_KEYS]))
    values = st.lists(st.sampled_from((L4_KEYS | L7_KEYS)[key]), min_size=1, max_size=2)
    fields = draw(st.fixed_dictionaries({}, optional={"values": values, "notValues": values}).filter(bool))
    return {"key": key, **fields}


def lists(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(one, min_size=1, max_size=2)


SOURCES = some_of(L4_SOURCE | L7_SOURCE).map(lambda fields: {"source": fields})
OPERATIONS = some_of(L4_OPERATION | L7_OPERATION).map(lambda fields: {"operation": fields})
RULES = lists(
    st.fixed_dictionaries({}, optional={"from": lists(SOURCES), "to": lists(OPERATIONS), "when": lists(conditions())})
)
CONNECTIONS = [
    Connection(SocketAddress.of(ip, 4000), SocketAddress.of("10.9.0.1", int(port)), identity)
    for ip in IPS
    for port in PORTS
    for identity in (None, *(Identity("cluster.local", namespace, "s") for namespace in NAMESPACES))
]


def hit(name: str, value: str, connection: Connection) -> bool:
    """Whether an attribute of a plain connection is the value, by Istio's definition."""
    identity = connection.source_identity
    match name:
        case "principals" | "source.principal":
            return identity is not None and identity.principal == value
        case "namespaces" | "source.namespace":
            return identity is not None and identity.namespace == value
        case "ipBlocks" | "source.ip":
            return ip_address(str(connection.source.ip)) in ip_network(value)
        case _:
            return connection.destination.port == int(value)


def holds(name: str, yes: Sequence[str], no: Sequence[str], connection: Connection, http: bool) -> bool:
    """One attribute with both of its lists; one of HTTP is as `http` supposes."""
    if name in HTTP:
        return http
    positive = not yes or any(hit(name, value, connection) for value in yes)
    return positive and not any(hit(name, value, connection) for value in no)


def part_holds(fields: Fields, connection: Connection, http: bool) -> bool:
    for name in L4_SOURCE | L7_SOURCE | L4_OPERATION | L7_OPERATION:
        negative = fields.get(f"not{name[0].upper()}{name[1:]}", ())
        if (name in fields or negative) and not holds(name, fields.get(name, ()), negative, connection, http):
            return False
    return True


def rule_holds(rule: Mapping[str, Any], connection: Connection, http: bool) -> bool:
    """The definition: `from`, `to` and all of `when`; of the entries of a list any."""
    sources = [part_holds(one["source"], connection, http) for one in rule.get("from", ())]
    operations = [part_holds(one["operation"], connection, http) for one in rule.get("to", ())]
    return (
        (any(sources) or "from" not in rule)
        and (any(operations) or "to" not in rule)
        and all(
            holds(one["key"], one.get("values", ()), one.get("notValues", ()), connection, http)
            for one in rule.get("when", ())
        )
    )


@settings(max_examples=300, deadline=None)
@given(RULES, st.sampled_from(["ALLOW", "DENY"]))
def test_nothing_that_should_be_closed_is_open(rules: Sequence[Mapping[str, Any]], action: str) -> None:
    """A DENY matches whatever it could match if HTTP were seen, or is refused; an ALLOW only what it allows without."""
    text = document("AuthorizationPolicy", f"action: {action}\nrules: {json.dumps(rules)}", "name: p, namespace: a")
    if refusals(text):
        return
    (policy,) = authorizations(of_kind(objects(text), AuthorizationPolicy), "istio-system")
    for connection in CONNECTIONS:
        judged = matches(policy, connection)
        if action == "DENY":
            assert judged or not any(rule_holds(rule, connection, http=True) for rule in rules)
        else:
            assert not judged or any(rule_holds(rule, connection, http=False) for rule in rules)
