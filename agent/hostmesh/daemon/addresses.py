"""Where the agent listens (the ports are Istio's)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Door:
    """One listening address; `kind` is what the proxy does with its connections, `name` how it is stored."""

    name: str
    kind: str
    address: str
    port: int


DOORS = (
    # Redirected output arrives on loopback; nobody else has any business there.
    Door("outbound", "outbound", "127.0.0.1", 15001),
    Door("outbound-v6", "outbound", "::1", 15001),
    Door("inbound_plaintext-v6", "inbound_plaintext", "::", 15006),
    Door("inbound-v6", "inbound", "::", 15008),
)

SOCKS5 = Door("socks5", "socks5", "127.0.0.1", 15080)
