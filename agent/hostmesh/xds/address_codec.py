"""Workloads and services on the wire (istio.workload.Address).

Endpoints of one service repeat the same few values, so equal parts are shared: a mesh of 100,000 workloads must fit
into every proxy worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from sys import intern
from types import MappingProxyType

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue

from hostmesh.model.address import NamespacedHostname, NetworkAddress, NetworkCidr
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
from hostmesh.model.workload import (
    DEFAULT_CLUSTER,
    DEFAULT_SERVICE_ACCOUNT,
    DEFAULT_TRUST_DOMAIN,
    ApplicationTunnel,
    HealthStatus,
    Locality,
    NetworkMode,
    PortMap,
    Protocol,
    TunnelKind,
    Workload,
    WorkloadType,
)
from hostmesh.wire.proto import workload_pb2 as pb
from hostmesh.xds.fields import (
    EnumCodec,
    Rejected,
    decode_cidr,
    decode_gateway,
    decode_hostname,
    decode_ip,
    decode_port,
    encode_gateway,
)

_SHARED = 1 << 16
"""How many distinct localities or service lists are kept for sharing."""

_UNLOGGED = "hostmesh.io/unlogged"
"""The extension of a workload that switches its access log off; stock ztunnels do not look at it."""

_DIRECTIONS = ("outbound", "inbound")

_PROTOCOLS = EnumCodec({pb.NONE: Protocol.TCP, pb.HBONE: Protocol.HBONE})
_TYPES = EnumCodec(
    {
        pb.DEPLOYMENT: WorkloadType.DEPLOYMENT,
        pb.CRONJOB: WorkloadType.CRONJOB,
        pb.POD: WorkloadType.POD,
        pb.JOB: WorkloadType.JOB,
    }
)
_STATUSES = EnumCodec({pb.HEALTHY: HealthStatus.HEALTHY, pb.UNHEALTHY: HealthStatus.UNHEALTHY})
_NETWORK_MODES = EnumCodec({pb.STANDARD: NetworkMode.STANDARD, pb.HOST_NETWORK: NetworkMode.HOST_NETWORK})
_TUNNELS = EnumCodec({pb.ApplicationTunnel.NONE: TunnelKind.NONE, pb.ApplicationTunnel.PROXY: TunnelKind.PROXY})
_IP_FAMILIES: EnumCodec[pb.IPFamilies, IpFamilies | None] = EnumCodec(
    {pb.AUTOMATIC: None, pb.IPV4_ONLY: IpFamilies.IPV4, pb.IPV6_ONLY: IpFamilies.IPV6, pb.DUAL: IpFamilies.DUAL}
)
_MODES = EnumCodec(
    {
        pb.LoadBalancing.UNSPECIFIED_MODE: LoadBalancingMode.STANDARD,
        pb.LoadBalancing.STRICT: LoadBalancingMode.STRICT,
        pb.LoadBalancing.FAILOVER: LoadBalancingMode.FAILOVER,
        pb.LoadBalancing.PASSTHROUGH: LoadBalancingMode.PASSTHROUGH,
    }
)
_HEALTH_POLICIES = EnumCodec(
    {
        pb.LoadBalancing.ONLY_HEALTHY: HealthPolicy.ONLY_HEALTHY,
        pb.LoadBalancing.ALLOW_ALL: HealthPolicy.ALLOW_ALL,
    }
)
_SCOPES = EnumCodec(
    {
        pb.LoadBalancing.REGION: Scope.REGION,
        pb.LoadBalancing.ZONE: Scope.ZONE,
        pb.LoadBalancing.SUBZONE: Scope.SUBZONE,
        pb.LoadBalancing.NODE: Scope.NODE,
        pb.LoadBalancing.CLUSTER: Scope.CLUSTER,
        pb.LoadBalancing.NETWORK: Scope.NETWORK,
    }
)

_Ports = tuple[tuple[int, int], ...]


def decode_address(data: bytes) -> Workload | Service:
    """Read one resource.

    Raises:
        Rejected: not a protobuf of that type, neither workload nor service, or an invalid part.
    """
    try:
        message = pb.Address.FromString(data)
    except DecodeError as error:
        raise Rejected(f"decode error: {error}") from None
    match message.WhichOneof("type"):
        case "workload":
            return _decode_workload(message.workload)
        case "service":
            return _decode_service(message.service)
        case _:
            raise Rejected("unknown address type")


def encode_workload(workload: Workload) -> pb.Address:
    """Inverse of `decode_address`; serialise it with `deterministic=True` where bytes are compared."""
    message = pb.Workload(
        uid=workload.uid,
        name=workload.name,
        namespace=workload.namespace,
        addresses=[ip.packed for ip in workload.addresses],
        network=workload.network,
        tunnel_protocol=_PROTOCOLS.encode(workload.protocol),
        trust_domain=workload.trust_domain if workload.trust_domain != DEFAULT_TRUST_DOMAIN else "",
        service_account=workload.service_account,
        node=workload.node,
        canonical_name=workload.canonical_name,
        canonical_revision=workload.canonical_revision,
        workload_type=_TYPES.encode(workload.workload_type),
        workload_name=workload.workload_name,
        native_tunnel=workload.native_tunnel,
        authorization_policies=workload.authorization_policies,
        status=_STATUSES.encode(workload.status),
        cluster_id=workload.cluster_id,
        hostname=workload.hostname,
        services={str(key): pb.PortList(ports=_encode_ports(ports)) for key, ports in workload.services.items()},
        network_mode=_NETWORK_MODES.encode(workload.network_mode),
    )
    _encode_optional_workload_parts(workload, message)
    return pb.Address(workload=message)


def encode_service(service: Service) -> pb.Address:
    """Inverse of `decode_address`; serialise it with `deterministic=True` where bytes are compared."""
    addresses = [pb.NetworkAddress(network=vip.network, address=vip.ip.packed) for vip in service.vips]
    addresses += [_encode_cidr_vip(vip) for vip in service.cidr_vips]
    message = pb.Service(
        name=service.name,
        namespace=service.namespace,
        hostname=service.hostname,
        addresses=addresses,
        ports=_encode_ports(service.ports),
        subject_alt_names=service.subject_alt_names,
        ip_families=_IP_FAMILIES.encode(service.ip_families),
        canonical=service.canonical,
        ingress_use_waypoint=service.ingress_use_waypoint,
        weighted_waypoints=[
            pb.WeightedWaypoint(destination=encode_gateway(waypoint.destination), weight=waypoint.weight)
            for waypoint in service.weighted_waypoints
        ],
        visibility=pb.Service.NAMESPACE if service.visibility is Visibility.NAMESPACE else pb.Service.PUBLIC,
    )
    if service.waypoint is not None:
        message.waypoint.CopyFrom(encode_gateway(service.waypoint))
    if service.load_balancing is not None:
        message.load_balancing.CopyFrom(_encode_load_balancing(service.load_balancing))
    return pb.Address(service=message)


def _decode_workload(message: pb.Workload) -> Workload:
    if not message.uid:
        raise Rejected("workload without a uid")
    if message.tunnel_protocol == pb.LEGACY_ISTIO_MTLS:
        raise Rejected("unknown enum: unsupported tunnel protocol: legacy istio mtls")
    services = tuple(sorted((key, _decode_ports(ports.ports)) for key, ports in message.services.items()))
    return Workload(
        uid=message.uid,
        name=message.name,
        namespace=intern(message.namespace),
        addresses=tuple(decode_ip(packed) for packed in message.addresses),
        network=intern(message.network),
        protocol=_PROTOCOLS.decode(message.tunnel_protocol),
        trust_domain=intern(message.trust_domain or DEFAULT_TRUST_DOMAIN),
        service_account=intern(message.service_account or DEFAULT_SERVICE_ACCOUNT),
        waypoint=decode_gateway(message.waypoint) if message.HasField("waypoint") else None,
        network_gateway=decode_gateway(message.network_gateway) if message.HasField("network_gateway") else None,
        node=intern(message.node),
        canonical_name=intern(message.canonical_name),
        canonical_revision=intern(message.canonical_revision),
        workload_type=_TYPES.decode_or(message.workload_type, WorkloadType.DEPLOYMENT),
        workload_name=intern(message.workload_name),
        native_tunnel=message.native_tunnel,
        application_tunnel=_decode_tunnel(message),
        authorization_policies=tuple(intern(key) for key in message.authorization_policies),
        status=_STATUSES.decode(message.status),
        cluster_id=intern(message.cluster_id or DEFAULT_CLUSTER),
        hostname=message.hostname,
        services=_shared_services(services),
        locality=_shared_locality(message.locality.region, message.locality.zone, message.locality.subzone),
        network_mode=_NETWORK_MODES.decode(message.network_mode),
        capacity=message.capacity.value if message.HasField("capacity") else 1,
        unlogged=_decode_unlogged(message.extensions) if message.extensions else (),
    )


def _decode_service(message: pb.Service) -> Service:
    if not message.hostname:
        raise Rejected("service without a hostname")
    vips: list[NetworkAddress] = []
    cidr_vips: list[NetworkCidr] = []
    for address in message.addresses:
        if not address.HasField("length") or address.length == len(address.address) * 8:
            vips.append(NetworkAddress(intern(address.network), decode_ip(address.address)))
        else:
            cidr = decode_cidr(address.address, address.length)
            cidr_vips.append(NetworkCidr(intern(address.network), cidr))
    return Service(
        name=message.name,
        namespace=intern(message.namespace),
        hostname=message.hostname,
        vips=tuple(vips),
        cidr_vips=tuple(cidr_vips),
        ports=MappingProxyType(dict(_decode_ports(message.ports))),
        subject_alt_names=tuple(message.subject_alt_names),
        waypoint=decode_gateway(message.waypoint) if message.HasField("waypoint") else None,
        weighted_waypoints=tuple(
            WeightedWaypoint(decode_gateway(waypoint.destination), waypoint.weight)
            for waypoint in message.weighted_waypoints
        ),
        load_balancing=_decode_load_balancing(message),
        ip_families=_IP_FAMILIES.decode(message.ip_families),
        canonical=message.canonical,
        ingress_use_waypoint=message.ingress_use_waypoint,
        visibility=Visibility.NAMESPACE if message.visibility == pb.Service.NAMESPACE else Visibility.PUBLIC,
    )


@lru_cache(maxsize=_SHARED)
def _shared_services(services: tuple[tuple[str, _Ports], ...]) -> Mapping[NamespacedHostname, PortMap]:
    return MappingProxyType({decode_hostname(key): MappingProxyType(dict(ports)) for key, ports in services})


@lru_cache(maxsize=_SHARED)
def _shared_locality(region: str, zone: str, subzone: str) -> Locality:
    return Locality(region, zone, subzone)


def _decode_ports(ports: Iterable[pb.Port]) -> _Ports:
    return tuple((decode_port(port.service_port), decode_port(port.target_port)) for port in ports)


def _decode_tunnel(message: pb.Workload) -> ApplicationTunnel | None:
    if not message.HasField("application_tunnel"):
        return None
    tunnel = message.application_tunnel
    return ApplicationTunnel(_TUNNELS.decode(tunnel.protocol), decode_port(tunnel.port) or None)


def _decode_load_balancing(message: pb.Service) -> LoadBalancing | None:
    if not message.HasField("load_balancing"):
        return None
    balancing = message.load_balancing
    if pb.LoadBalancing.UNSPECIFIED_SCOPE in balancing.routing_preference:
        raise Rejected("unknown enum: invalid target")
    return LoadBalancing(
        mode=_MODES.decode(balancing.mode),
        routing_preferences=tuple(_SCOPES.decode(scope) for scope in balancing.routing_preference),
        health_policy=_HEALTH_POLICIES.decode(balancing.health_policy),
    )


def _encode_optional_workload_parts(workload: Workload, message: pb.Workload) -> None:
    if workload.waypoint is not None:
        message.waypoint.CopyFrom(encode_gateway(workload.waypoint))
    if workload.network_gateway is not None:
        message.network_gateway.CopyFrom(encode_gateway(workload.network_gateway))
    if workload.application_tunnel is not None:
        tunnel = workload.application_tunnel
        message.application_tunnel.CopyFrom(
            pb.ApplicationTunnel(protocol=_TUNNELS.encode(tunnel.protocol), port=tunnel.port or 0)
        )
    if workload.locality != Locality():
        locality = workload.locality
        message.locality.CopyFrom(pb.Locality(region=locality.region, zone=locality.zone, subzone=locality.subzone))
    if workload.capacity != 1:
        message.capacity.value = workload.capacity
        message.capacity.SetInParent()
    if workload.unlogged:
        extension = message.extensions.add(name=_UNLOGGED)
        extension.config.Pack(StringValue(value=",".join(workload.unlogged)))


def _decode_unlogged(extensions: Iterable[pb.Extension]) -> tuple[str, ...]:
    """Other extensions are none of ours."""
    for one in extensions:
        value = StringValue()
        if one.name == _UNLOGGED and one.config.Unpack(value):
            return tuple(intern(direction) for direction in value.value.split(",") if direction in _DIRECTIONS)
    return ()


def _encode_ports(ports: PortMap) -> list[pb.Port]:
    return [pb.Port(service_port=port, target_port=target) for port, target in sorted(ports.items())]


def _encode_cidr_vip(vip: NetworkCidr) -> pb.NetworkAddress:
    packed = vip.cidr.network_address.packed
    return pb.NetworkAddress(network=vip.network, address=packed, length=vip.cidr.prefixlen)


def _encode_load_balancing(balancing: LoadBalancing) -> pb.LoadBalancing:
    return pb.LoadBalancing(
        routing_preference=[_SCOPES.encode(scope) for scope in balancing.routing_preferences],
        mode=_MODES.encode(balancing.mode),
        health_policy=_HEALTH_POLICIES.encode(balancing.health_policy),
    )
