"""Endpoint: where the control plane is and which name its certificate must carry."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PORT = 15012
"""Istio's port for xDS and certificates over TLS."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`host` is a name or an IP without brackets; `server_name` overrides the name sought in its certificate."""

    host: str
    port: int = DEFAULT_PORT
    server_name: str | None = None

    @classmethod
    def parse(cls, text: str, server_name: str | None = None) -> Endpoint:
        """Read `host`, `host:port` or `[v6]:port`; a leading `https://` is allowed, as ztunnel's variables have it.

        Raises:
            ValueError: no host, a port outside 1..65535, or another scheme.
        """
        scheme, separator, rest = text.partition("://")
        if separator and scheme != "https":
            raise ValueError(f"{text!r}: unsupported scheme {scheme}, the control plane is only spoken to over TLS")
        address = rest if separator else text
        host, port = _split(address)
        if not host or "/" in host or any(map(str.isspace, host)):
            raise ValueError(f"{text!r} is not host:port")
        if not port:
            return cls(host, DEFAULT_PORT, server_name)
        if not (port.isascii() and port.isdigit()) or not 1 <= int(port[:6]) <= 65535:
            raise ValueError(f"{text!r}: the port must be 1 to 65535")
        return cls(host, int(port), server_name)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split(address: str) -> tuple[str, str]:
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        return host, port.removeprefix(":")
    if address.count(":") > 1:
        return address, ""
    host, _, port = address.partition(":")
    return host, port
