"""Field types shared by the resources: checked IPs, ports, enums and gateway addresses (istio.workload)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Generic, TypeVar

from hostmesh.model.address import (
    GatewayAddress,
    IPAddress,
    IPNetwork,
    NamespacedHostname,
    NetworkAddress,
    canonical,
)
from hostmesh.wire.proto import workload_pb2 as pb

_V4_MAPPED_BITS = 96


class Rejected(Exception):
    """A resource that must not be applied; the text is what goes back to the control plane."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_Number = TypeVar("_Number", bound=int)
_Member = TypeVar("_Member")


class EnumCodec(Generic[_Number, _Member]):
    """An enum of the wire and its counterpart in the model."""

    def __init__(self, members: Mapping[_Number, _Member]) -> None:
        self._members: dict[int, _Member] = dict(members.items())
        self._numbers = {member: number for number, member in members.items()}

    def decode(self, number: int) -> _Member:
        """The member with that number.

        Raises:
            Rejected: a number that this version does not know.
        """
        try:
            return self._members[number]
        except KeyError:
            raise Rejected(f"decode error: unknown enumeration value {number}") from None

    def decode_or(self, number: int, default: _Member) -> _Member:
        """The member with that number, or `default` for one that this version does not know."""
        return self._members.get(number, default)

    def encode(self, member: _Member) -> _Number:
        """The number of a member."""
        return self._numbers[member]


def decode_ip(packed: bytes) -> IPAddress:
    """From 4 or 16 raw bytes; IPv4-mapped IPv6 becomes IPv4.

    Raises:
        Rejected: any other length.
    """
    if len(packed) == 4:
        return IPv4Address(packed)
    if len(packed) == 16:
        return canonical(IPv6Address(packed))
    raise Rejected(f"failed to parse address, had {len(packed)} bytes")


def decode_cidr(packed: bytes, length: int) -> IPNetwork:
    """From a raw address and a prefix length; host bits are cleared, IPv4-mapped ranges become IPv4.

    Raises:
        Rejected: bad address or a prefix longer than the address.
    """
    if len(packed) not in (4, 16):
        raise Rejected(f"failed to parse address, had {len(packed)} bytes")
    if length > len(packed) * 8:
        raise Rejected("invalid cidr: invalid IP prefix length")
    if len(packed) == 4:
        return IPv4Network((packed, length), strict=False)
    ip = IPv6Address(packed)
    if ip.ipv4_mapped is not None and length >= _V4_MAPPED_BITS:
        return IPv4Network((ip.ipv4_mapped, length - _V4_MAPPED_BITS), strict=False)
    return IPv6Network((packed, length), strict=False)


def decode_port(number: int) -> int:
    """A port number, 0 included.

    Raises:
        Rejected: above 65535; cutting it to 16 bits would name another port.
    """
    if number > 65535:
        raise Rejected(f"invalid port {number}: ports end at 65535")
    return number


def decode_hostname(text: str) -> NamespacedHostname:
    """From `namespace/hostname`.

    Raises:
        Rejected: no slash.
    """
    try:
        return NamespacedHostname.parse(text)
    except ValueError as error:
        raise Rejected(str(error)) from None


def decode_gateway(message: pb.GatewayAddress) -> GatewayAddress:
    """Where a waypoint or network gateway is.

    Raises:
        Rejected: no destination, bad address or port.
    """
    port = decode_port(message.hbone_mtls_port)
    match message.WhichOneof("destination"):
        case "hostname":
            return GatewayAddress(NamespacedHostname(message.hostname.namespace, message.hostname.hostname), port)
        case "address":
            return GatewayAddress(NetworkAddress(message.address.network, decode_ip(message.address.address)), port)
        case _:
            raise Rejected("gateway address has no destination")


def encode_gateway(gateway: GatewayAddress) -> pb.GatewayAddress:
    """Inverse of `decode_gateway`."""
    message = pb.GatewayAddress(hbone_mtls_port=gateway.hbone_mtls_port)
    match gateway.destination:
        case NamespacedHostname(namespace, hostname):
            message.hostname.namespace, message.hostname.hostname = namespace, hostname
            message.hostname.SetInParent()
        case NetworkAddress(network, ip):
            message.address.network, message.address.address = network, ip.packed
    return message
