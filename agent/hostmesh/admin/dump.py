"""The model as `/config_dump` prints it: ztunnel's field names, so that tools written for it read ours."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from hostmesh.model.address import GatewayAddress, NamespacedHostname
from hostmesh.model.authorization import Authorization, Match, StringMatch, StringMatchKind
from hostmesh.model.identity import Credentials
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.xds.local_file import LocalMesh

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint of a service as the state holds it."""

    workload_uid: str
    ports: Mapping[int, int]
    status: str


def workload_json(workload: Workload) -> Json:
    """One entry of `workloads`."""
    always = {
        "workloadIps": [str(ip) for ip in workload.addresses],
        "protocol": workload.protocol.value,
        "networkMode": workload.network_mode.value,
        "name": workload.name,
        "namespace": workload.namespace,
        "status": workload.status.value,
        "clusterId": workload.cluster_id,
        "capacity": workload.capacity,
        "workloadType": workload.workload_type.value,
    }
    tunnel = workload.application_tunnel
    locality = {
        "region": workload.locality.region,
        "zone": workload.locality.zone,
        "subzone": workload.locality.subzone,
    }
    optional: Json = {
        "uid": workload.uid,
        "trustDomain": workload.trust_domain,
        "serviceAccount": workload.service_account,
        "network": workload.network,
        "workloadName": workload.workload_name,
        "canonicalName": workload.canonical_name,
        "canonicalRevision": workload.canonical_revision,
        "hostname": workload.hostname,
        "node": workload.node,
        "nativeTunnel": workload.native_tunnel,
        "applicationTunnel": tunnel and {"protocol": tunnel.protocol.value, "port": tunnel.port},
        "authorizationPolicies": list(workload.authorization_policies),
        "locality": {key: value for key, value in locality.items() if value},
        "services": {str(name): _ports(ports) for name, ports in workload.services.items()},
        "waypoint": _gateway(workload.waypoint),
        "networkGateway": _gateway(workload.network_gateway),
    }
    return always | _without_empty(optional)


def service_json(service: Service, endpoints: Iterable[EndpointView]) -> Json:
    """One entry of `services`."""
    balancing = service.load_balancing
    always = {
        "name": service.name,
        "namespace": service.namespace,
        "hostname": service.hostname,
        "vips": [str(vip) for vip in service.vips],
        "ports": _ports(service.ports),
        "endpoints": {one.workload_uid: _endpoint(one) for one in endpoints},
        "subjectAltNames": list(service.subject_alt_names),
        "canonical": service.canonical,
        "visibility": service.visibility.value,
    }
    optional: Json = {
        "cidrVips": [{"network": vip.network, "cidr": str(vip.cidr)} for vip in service.cidr_vips],
        "waypoint": _gateway(service.waypoint),
        "weightedWaypoints": [
            {"destination": _gateway(w.destination), "weight": w.weight} for w in service.weighted_waypoints
        ],
        "loadBalancer": balancing
        and {
            "routingPreferences": [scope.value for scope in balancing.routing_preferences],
            "mode": balancing.mode.value,
            "healthPolicy": balancing.health_policy.value,
        },
        "ipFamilies": service.ip_families and service.ip_families.value,
    }
    return always | _without_empty(optional)


def staged_json(workload: Workload, service: NamespacedHostname) -> Json:
    """One entry of `stagedServices`: an endpoint of a service that nobody has described."""
    return _endpoint(EndpointView(workload.uid, workload.services.get(service, {}), workload.status.value))


def policy_json(policy: Authorization) -> Json:
    """One entry of `policies`."""
    return {
        "name": policy.name,
        "namespace": policy.namespace,
        "scope": policy.scope.value,
        "action": policy.action.value,
        "dryRun": policy.dry_run,
        "rules": [[[_match(match) for match in clause] for clause in rule] for rule in policy.rules],
    }


def static_json(mesh: LocalMesh) -> Json:
    """`staticConfig`: what a local file says; without one the lists are empty."""
    return {
        "workloads": [{"services": {}, **workload_json(workload)} for workload in mesh.workloads],
        "services": [service_json(service, ()) for service in mesh.services],
        "policies": [policy_json(policy) for policy in mesh.policies],
    }


def certificate_json(identity: str, state: str, credentials: Credentials | None) -> Json:
    """One entry of `certificates`; the arrays are empty unless a certificate is there."""
    chain, roots = (credentials.chain_pem, credentials.roots_pem) if credentials else (b"", b"")
    return {
        "identity": identity,
        "state": state,
        "certChain": [_certificate(certificate) for certificate in _load(chain)],
        "rootCerts": [_certificate(certificate) for certificate in _load(roots)],
    }


def _endpoint(view: EndpointView) -> Json:
    return {"workloadUid": view.workload_uid, "port": _ports(view.ports), "status": view.status}


def _load(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem) if pem else []


def _certificate(certificate: x509.Certificate) -> Json:
    return {
        "pem": base64.b64encode(certificate.public_bytes(Encoding.PEM)).decode(),
        "serialNumber": str(certificate.serial_number),
        "validFrom": _time(certificate.not_valid_before_utc),
        "expirationTime": _time(certificate.not_valid_after_utc),
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _gateway(gateway: GatewayAddress | None) -> Json | None:
    if gateway is None:
        return None
    return {"destination": str(gateway.destination), "hboneMtlsPort": gateway.hbone_mtls_port}


def _ports(ports: Mapping[int, int]) -> dict[str, int]:
    return {str(service_port): target for service_port, target in ports.items()}


def _string(match: StringMatch) -> Json:
    return {match.kind.value: [] if match.kind is StringMatchKind.PRESENCE else match.value}


def _match(match: Match) -> Json:
    return _without_empty(
        {
            "namespaces": [_string(m) for m in match.namespaces],
            "notNamespaces": [_string(m) for m in match.not_namespaces],
            "serviceAccounts": [
                {"namespace": m.namespace, "serviceAccount": m.service_account} for m in match.service_accounts
            ],
            "notServiceAccounts": [
                {"namespace": m.namespace, "serviceAccount": m.service_account} for m in match.not_service_accounts
            ],
            "principals": [_string(m) for m in match.principals],
            "notPrincipals": [_string(m) for m in match.not_principals],
            "sourceIps": [str(ip) for ip in match.source_ips],
            "notSourceIps": [str(ip) for ip in match.not_source_ips],
            "destinationIps": [str(ip) for ip in match.destination_ips],
            "notDestinationIps": [str(ip) for ip in match.not_destination_ips],
            "destinationPorts": list(match.destination_ports),
            "notDestinationPorts": list(match.not_destination_ports),
        }
    )


def _without_empty(values: Json) -> Json:
    return {key: value for key, value in values.items() if value}
