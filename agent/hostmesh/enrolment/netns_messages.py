"""What the agent and hostmesh-netns tell each other: one JSON packet there, one back, descriptors beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Literal, get_args

SOCKET = Path("/run/hostmesh-netns/socket")

MAX_PACKET = 16384
MAX_DESCRIPTORS = 64
"""In one packet; the kernel takes at most 253."""

NAMES, GATE = "names", "gate"
"""Kinds of sockets that are no listeners of the proxy: where names are answered, and what captures questions."""

Verb = Literal["enter", "rules", "digest", "sockets", "leave"]


class BadRequest(ValueError):
    """The request is not one; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """The namespace's descriptor travels beside it.

    `enter` opens the listeners and lays out the rules, `rules` lays out the rules alone, `digest` reads them,
    `sockets` makes unconnected sockets, `leave` removes the rules. `addresses` are refused to be missing at `enter`.
    `dns` is the port at which names are answered inside, 0 where they are not: then `enter` opens its sockets, too.
    `socks5` is the port of a further listener on loopback, 0 where none is wanted. With `original_source` replies to
    clients' addresses come back to the proxy.
    """

    verb: Verb
    ports: tuple[int, ...] = (15001, 15006, 15008)
    excluded: tuple[int, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    ipv6: bool = False
    count: int = 0
    dns: int = 0
    socks5: int = 0
    original_source: bool = False

    def encode(self) -> bytes:
        """The packet."""
        return json.dumps(
            {
                "verb": self.verb,
                "ports": self.ports,
                "excluded": self.excluded,
                "addresses": [str(address) for address in self.addresses],
                "ipv6": self.ipv6,
                "count": self.count,
                "dns": self.dns,
                "socks5": self.socks5,
                "original_source": self.original_source,
            }
        ).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """`error` is empty when it was done. `kinds` names the descriptors that travel beside it, in order.

    `digest` is of the rules that are in the namespace, empty when there are none.
    """

    error: str = ""
    kinds: tuple[str, ...] = ()
    digest: str = ""

    def encode(self) -> bytes:
        """The packet."""
        return json.dumps({"error": self.error[:4096], "kinds": self.kinds, "digest": self.digest}).encode()


def read_request(packet: bytes) -> Request:
    """Inverse of `Request.encode`; trusts nothing.

    Raises:
        BadRequest: it is not a request, or asks for too much.
    """
    try:
        said = json.loads(packet)
        request = Request(
            verb=said["verb"],
            ports=_ports(said["ports"], 3),
            excluded=_ports(said["excluded"], None),
            addresses=tuple(ip_address(address) for address in said["addresses"]),
            ipv6=said["ipv6"] is True,
            count=said["count"],
            dns=_ports([said["dns"]], 1)[0] if said.get("dns") else 0,
            socks5=_ports([said["socks5"]], 1)[0] if said.get("socks5") else 0,
            original_source=said.get("original_source") is True,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"not a request: {error}") from error
    if request.verb not in get_args(Verb):
        raise BadRequest(f"no such verb: {request.verb!r}")
    if not isinstance(request.count, int) or not 0 <= request.count <= MAX_DESCRIPTORS:
        raise BadRequest(f"{request.count} sockets are not given at once, at most {MAX_DESCRIPTORS} are")
    return request


def read_reply(packet: bytes) -> Reply:
    """Inverse of `Reply.encode`.

    Raises:
        BadRequest: it is no reply.
    """
    try:
        said = json.loads(packet)
        return Reply(str(said["error"]), tuple(map(str, said["kinds"])), str(said["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"not a reply: {error}") from error


def _ports(values: list[int], count: int | None) -> tuple[int, ...]:
    ports = tuple(values)
    if not all(type(port) is int and 0 < port < 65536 for port in ports) or (count or len(ports)) != len(ports):
        raise ValueError(f"{values!r} are no ports")
    return ports
