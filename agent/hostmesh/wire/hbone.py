"""HBONE: the CONNECT request and its answer as header blocks (Istio ambient; RFC 9113 §8.5, RFC 7239)."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from hostmesh.model.address import SocketAddress
from hostmesh.wire.http2.events import Field
from hostmesh.wire.http2.headers import encode, encode_field, encode_integer, encode_string

_HOST_PORT = re.compile(r"([A-Za-z0-9_*](?:[A-Za-z0-9._*-]{0,252}[A-Za-z0-9_*.])?):([0-9]{1,5})")
_NUMERIC = re.compile(r"[0-9.]+")
_READABLE: Final = bytes((9, *range(0x20, 0x7F)))

_NEVER_ZERO: Final = 1 << 64 | 1
"""A bit of each of the two numbers of a trace: neither may be 0."""

_FORWARDED: Final = re.compile(rb'for="[!#-:<-~]*";host=([!#-:<-~]+)')
"""As ambient proxies write it."""

_MAX_SHOWN = 512
"""Of a text that a peer chose; above the longest authority."""

_HOSTS_PORT = (b"x-hostmesh-port", b"host")
_REASON = b"x-hostmesh-reason"
_CODE = re.compile(rb"[A-Z_]{1,64}")

_FORWARDED_NAME = encode_integer(0, 0x0F) + encode_string(b"forwarded")
_TRACEPARENT_NAME = encode_integer(0, 0x0F) + encode_string(b"traceparent")


class BadConnect(ValueError):
    """A request that is no HBONE: to be answered with `status`; `reason` is for the log, not for the peer."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class BadResponse(ValueError):
    """An answer without a status."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """An authority that names a service; as it came, because hostnames are compared exactly."""

    hostname: str
    port: int

    def __str__(self) -> str:
        return f"{self.hostname}:{self.port}"


@dataclass(slots=True, init=False)
class ConnectRequest:
    """A CONNECT as received; only `authority` was checked, all else is what the peer says.

    `baggage` is "" where absent or not printable ASCII; several lines are joined by commas. `forwarded_host` is the
    service that the client called. `network` is None without x-forwarded-network.

    Not frozen, and with a constructor of its own, because every connection has one: see `wire.http2.events`.
    """

    authority: str
    baggage: str
    forwarded_host: str | None
    network: str | None

    def __init__(
        self,
        authority: str,
        baggage: str = "",
        forwarded_host: str | None = None,
        network: str | None = None,
    ) -> None:
        self.authority = authority
        self.baggage = baggage
        self.forwarded_host = forwarded_host
        self.network = network

    @property
    def target(self) -> SocketAddress | HostPort:
        """What the authority means."""
        return parse_authority(self.authority)


def connect_prefix(authority: str, baggage: str) -> bytes:
    """The part of a request's header block that stays the same for a route; ends with the baggage."""
    return encode(
        (
            (b":method", b"CONNECT"),
            (b":authority", authority.encode()),
            (b"baggage", baggage.encode()),
        )
    )


def encode_connect(prefix: bytes, forwarded_value: str, traceparent: str, network: str | None = None) -> bytes:
    """A whole request's header block. `network` only on the inner CONNECT of a double tunnel."""
    block = (
        prefix
        + _FORWARDED_NAME
        + encode_string(forwarded_value.encode())
        + _TRACEPARENT_NAME
        + encode_string(traceparent.encode())
    )
    return block if network is None else block + encode_field(b"x-forwarded-network", network.encode())


def forwarded(client: str, host: str | None) -> str:
    """The `forwarded` value for a client's `ip:port` (IPv6 in brackets) and the service that it called, if known."""
    return f'for="{client}";host={host}' if host else f'for="{client}"'


def new_traceparent() -> str:
    """A fresh trace, not sampled (W3C Trace Context). Unique, not secret."""
    bits = (random.getrandbits(192) | _NEVER_ZERO).to_bytes(24, "big").hex()
    return f"00-{bits[:32]}-{bits[32:]}-00"


def parse_connect(fields: Sequence[Field]) -> ConnectRequest:
    """Read a request that the HTTP/2 connection has found well formed.

    Raises:
        BadConnect: not CONNECT, or an authority that is neither `ip:port`, `[v6]:port` nor `host:port`.
    """
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in found:
            found[name] = value
        elif name == b"baggage":
            found[name] += b"," + value
    method = found.get(b":method", b"")
    if method != b"CONNECT":
        raise BadConnect(f"expected method CONNECT, got {_printable(method)}")
    try:
        authority = _checked_authority(found.get(b":authority", b""))
    except ValueError as error:
        raise BadConnect(f"no valid authority pseudo header: {error}") from None
    network = found.get(b"x-forwarded-network")
    return ConnectRequest(
        authority,
        _text(found.get(b"baggage", b"")),
        _forwarded_host(found.get(b"forwarded", b"")),
        None if network is None else _text(network),
    )


@lru_cache(maxsize=4096)
def parse_authority(authority: str) -> SocketAddress | HostPort:
    """Read `ip:port`, `[v6]:port` or `host:port`.

    Raises:
        ValueError: none of them.
    """
    if "%" in authority:
        raise ValueError(f"{authority!r}: a zone means nothing to another host")
    host_port = _HOST_PORT.fullmatch(authority)
    if host_port is None or _NUMERIC.fullmatch(host_port[1]):
        return SocketAddress.parse(authority)
    port = int(host_port[2])
    if port > 65535:
        raise ValueError(f"{authority!r}: port above 65535")
    return HostPort(host_port[1], port)


def encode_response(status: int, baggage: str = "") -> bytes:
    """An answer's header block; only a 200 says whose it is."""
    block = encode_field(b":status", str(status).encode())
    return block + encode_field(b"baggage", baggage.encode()) if baggage else block


@lru_cache(maxsize=256)
def encode_refusal(status: int, reason: str) -> bytes:
    """An answer that is none of 200, with the code of its reason. hostmesh's own."""
    return encode_response(status) + encode_field(_REASON, reason.encode())


def stated_reason(fields: Sequence[Field]) -> str:
    """The code of the reason that a refusal states; any word of that form, or nothing."""
    found = next((value for name, value in fields if name == _REASON), b"")
    return found.decode() if _CODE.fullmatch(found) else ""


def encode_hosts_port() -> bytes:
    """A 503 that says more: at this port listens somebody of the host who is no workload. hostmesh's own."""
    return encode_response(503) + encode_field(*_HOSTS_PORT)


def is_hosts_port(fields: Sequence[Field]) -> bool:
    """Whether an answer says so."""
    return _HOSTS_PORT in fields


def parse_response(fields: Sequence[Field]) -> int:
    """The status of an answer; only 200 opens the tunnel.

    Raises:
        BadResponse: no status in three digits.
    """
    if not fields or fields[0][0] != b":status":
        raise BadResponse("an answer without :status")
    status = fields[0][1]
    if len(status) != 3 or not status.isdigit():
        raise BadResponse(f"status {_printable(status)!r}")
    return int(status)


@lru_cache(maxsize=4096)
def _checked_authority(value: bytes) -> str:
    authority = _printable(value)
    parse_authority(authority)
    return authority


def _text(value: bytes) -> str:
    return "" if value.translate(None, _READABLE) else value.decode()


def _printable(value: bytes) -> str:
    """For reasons, which end in logs: bounded, one line, no control characters."""
    value = value[:_MAX_SHOWN]
    return ascii(value)[2:-1] if value.translate(None, _READABLE) else value.decode()


def _forwarded_host(value: bytes) -> str | None:
    if b"host=" not in value:
        return None
    usual = _FORWARDED.fullmatch(value)
    if usual is not None:
        return usual[1].decode()
    parts = [part.strip() for part in _text(value).split(";")]
    hosts = [_unquote(part[5:]) for part in parts if part.startswith("host=")]
    return next((host for host in hosts if host), None)


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
