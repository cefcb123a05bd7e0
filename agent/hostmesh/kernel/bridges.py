"""Bridges of this host, and whether what crosses one from port to port comes to the host's rules (br_netfilter)."""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

_SIOCETHTOOL = 0x8946
_DRIVER_INFO = 3
_DRIVER = slice(4, 36)
_INFO_SIZE = 196
_UP, _LOCAL = 0x1, 0x80000000
_SWITCHES = {4: "bridge-nf-call-iptables", 6: "bridge-nf-call-ip6tables"}

Address = IPv4Address | IPv6Address


def past_rules(addresses: Iterable[Address], proc: Path = Path("/proc")) -> tuple[str, ...]:
    """The bridges on which these addresses are, if no rule of the host sees what neighbours there send each other."""
    unseen = [address for address in addresses if not _is_filtered(address.version, proc)]
    if not unseen:
        return ()
    routes = _on_link(proc / "thread-self/net")
    found = {device for device, network in routes if any(address in network for address in unseen)}
    return tuple(sorted(device for device in found if _is_bridge(device)))


def _is_filtered(version: int, proc: Path) -> bool:
    try:
        return (proc / "sys/net/bridge" / _SWITCHES[version]).read_text().strip() == "1"
    except FileNotFoundError:
        return False


def _on_link(net: Path) -> Iterator[tuple[str, IPv4Network | IPv6Network]]:
    """Networks that are reached without a router, by their device (proc_net(5))."""
    for line in (net / "route").read_text().splitlines()[1:]:
        device, destination, gateway, flags, *_, mask = line.split()[:8]
        if int(flags, 16) & _UP and not int(gateway, 16) and int(mask, 16):
            network = struct.pack("=I", int(destination, 16))
            yield device, IPv4Network((network, int(mask, 16).bit_count()))
    file = net / "ipv6_route"
    for line in file.read_text().splitlines() if file.exists() else ():
        destination, length, _, _, gateway, _, _, _, flags, device = line.split()
        if int(flags, 16) & (_UP | _LOCAL) == _UP and not int(gateway, 16) and int(length, 16):
            yield device, IPv6Network((bytes.fromhex(destination), int(length, 16)))


def _is_bridge(device: str) -> bool:
    """By its driver (ethtool), which a process may ask of its own network namespace."""
    info = array("B", struct.pack("=I", _DRIVER_INFO).ljust(_INFO_SIZE, b"\0"))
    request = struct.pack("16sP", device.encode(), info.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
        except OSError:
            return False
    return info.tobytes()[_DRIVER].rstrip(b"\0") == b"bridge"
