"""What two control planes tell of the same documents, so that one may compare it: other words for the same are one."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from google.protobuf.json_format import MessageToDict

from hostmesh.wire.proto.authorization_pb2 import Authorization
from hostmesh.wire.proto.workload_pb2 import Address
from hostmesh.xds.codec import ADDRESS_TYPE

Resource = dict[str, Any]
_ALLOCATED = (ip_network("240.240.0.0/16"), ip_network("2001:2::/48"))


def comparable(type_url: str, resources: Iterable[bytes]) -> dict[str, Resource]:
    """By what they are and whose."""
    found = [_of_address(one) if type_url == ADDRESS_TYPE else _of_authorization(one) for one in resources]
    return dict(found)


def _of_address(data: bytes) -> tuple[str, Resource]:
    message = Address.FromString(data)
    if message.WhichOneof("type") == "workload":
        workload = _plain(message.workload)
        workload.setdefault("service_account", "default")
        return f"workload {workload['uid']}", workload
    service = _plain(message.service)
    service["addresses"] = sorted(_address(one) for one in service.get("addresses", ()))
    for port in service.get("ports", ()):
        port.pop("app_protocol", None)  # for waypoints only, which are told with their programs
    return f"service {service['namespace']}/{service['hostname']}", service


def _of_authorization(data: bytes) -> tuple[str, Resource]:
    policy = _plain(Authorization.FromString(data))
    for rule in policy.get("rules", ()):
        clauses = [[_match(one) for one in clause["matches"]] for clause in rule.get("clauses", ())]
        # A clause is an OR, so that a match of nothing makes it hold always; clauses are ANDed in any order.
        rule["clauses"] = sorted((clause for clause in clauses if {} not in clause), key=str)
    return f"policy {policy['namespace']}/{policy['name']}", policy


def _plain(message: Any) -> Resource:
    plain: Resource = MessageToDict(message, preserving_proto_field_name=True)
    return plain


def _address(sent: Mapping[str, Any]) -> str:
    """Of an allocated one only that it is: which one depends on what was allocated before."""
    address = ip_address(b64decode(sent["address"]))
    if any(address in network for network in _ALLOCATED):
        return f"allocated IPv{address.version}"
    return f"{address}/{sent['length']}" if "length" in sent else str(address)


def _match(sent: Mapping[str, Any]) -> Resource:
    """Networks without the bits of hosts."""
    return {
        name: sorted(str(_network(one)) for one in value) if name.endswith("_ips") else value
        for name, value in sent.items()
    }


def _network(sent: Mapping[str, Any]) -> Any:
    return ip_network((b64decode(sent["address"]), sent.get("length", 0)), strict=False)
