"""Addresses of the mesh: IPs on named networks, sockets, hostnames in namespaces (istio.workload)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


@lru_cache(maxsize=65536)
def parse_ip(text: str) -> IPAddress:
    """Parse an IP and canonicalise: an IPv4-mapped IPv6 address becomes the IPv4 one.

    Raises:
        ValueError: not an IP address.
    """
    return canonical(ip_address(text))


def canonical(ip: IPAddress) -> IPAddress:
    """`::ffff:a.b.c.d` as `a.b.c.d`; everything else unchanged."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


@lru_cache(maxsize=65536)
def _printed(text: str) -> tuple[IPAddress, str]:
    ip = parse_ip(text)
    return ip, str(ip)


@dataclass(frozen=True, slots=True, init=False)
class SocketAddress:
    """`ip:port`; IPv6 is always printed in brackets.

    Every connection makes some, so what `dataclass` would leave to the interpreter is written out, and `host`, the
    printed IP, is kept: printing and hashing an IP is the interpreter's work too.
    """

    ip: IPAddress
    port: int
    host: str = field(repr=False, compare=False)

    def __init__(self, ip: IPAddress, port: int, host: str = "") -> None:
        object.__setattr__(self, "ip", ip)
        object.__setattr__(self, "port", port)
        object.__setattr__(self, "host", host or str(ip))

    @classmethod
    def of(cls, ip: str, port: int) -> SocketAddress:
        """From what the socket module reports."""
        known, host = _printed(ip)
        return cls(known, port, host)

    @classmethod
    def parse(cls, text: str) -> SocketAddress:
        """Read `ip:port` or `[v6]:port`.

        Raises:
            ValueError: not an address with a port in 0..65535.
        """
        host, separator, port_text = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not separator or not (port_text.isascii() and port_text.isdigit()) or len(port_text) > 5:
            raise ValueError(f"{text!r} is not ip:port")
        ip = ip_address(host[1:-1] if bracketed else host)
        if bracketed != isinstance(ip, IPv6Address):
            raise ValueError(f"{text!r}: IPv6 addresses, and only they, are written in brackets")
        port = int(port_text)
        if port > 65535:
            raise ValueError(f"{text!r}: port above 65535")
        return cls(canonical(ip), port)

    def __hash__(self) -> int:
        return hash((self.host, self.port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """An IP on a named network; `""` is the default network. Printed `network/ip` as xDS names it."""

    network: str
    ip: IPAddress

    def __str__(self) -> str:
        return f"{self.network}/{self.ip}"


@dataclass(frozen=True, slots=True)
class NetworkCidr:
    """A range of addresses on a named network (CIDR VIPs of ServiceEntries)."""

    network: str
    cidr: IPNetwork

    def __str__(self) -> str:
        return f"{self.network}/{self.cidr}"


@dataclass(frozen=True, slots=True)
class NamespacedHostname:
    """A service's key: printed `namespace/hostname` as xDS names it."""

    namespace: str
    hostname: str

    @classmethod
    def parse(cls, text: str) -> NamespacedHostname:
        """Read `namespace/hostname`.

        Raises:
            ValueError: no slash.
        """
        namespace, separator, hostname = text.partition("/")
        if not separator:
            raise ValueError(f"failed to parse namespaced hostname: {text}")
        return cls(namespace, hostname)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.hostname}"


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Where a waypoint or network gateway is (istio.workload.GatewayAddress)."""

    destination: NetworkAddress | NamespacedHostname
    hbone_mtls_port: int

    def __str__(self) -> str:
        return f"{self.destination}:{self.hbone_mtls_port}"
