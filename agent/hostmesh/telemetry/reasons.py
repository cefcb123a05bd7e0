"""Reason: a stable code for why a connection failed or is not what one expects; the same in logs, metrics and docs.

The words of failures are ztunnel's, so a code is read from them: a ztunnel's log lines have codes too. Each code has a
page, docs/reasons/<CODE>.md.
"""

from __future__ import annotations

import re
from enum import Enum

from hostmesh.telemetry.labels import NO_FLAGS


class Reason(Enum):
    """The name is the code, the value says it in a sentence."""

    # How a connection goes when nothing is wrong
    MUTUAL_TLS = "The connection is made through the mesh, authenticated and encrypted, and is allowed."
    THROUGH_WAYPOINT = "The connection is made through the mesh to a waypoint, which decides further."
    PLAINTEXT = "One of the two ends does not speak HBONE: the connection is made in plaintext."
    PASSTHROUGH = "Nobody in the mesh has the destination: the connection is made in plaintext, as without a mesh."

    # Who calls
    NOT_CAPTURED = "The source is not captured on its host: its connections leave in plaintext, without an identity."
    CAPTURE_INCOMPLETE = "The source is registered for capture, but capture is not in place on its host."
    SOURCE_UNKNOWN = "The control plane has not described the calling workload, so that nobody can tell who it is."
    AGENT_NOT_READY = "The agent of the source's host is not ready."

    # Certificates and clocks
    CERTIFICATE_MISSING = "There is no certificate for the workload."
    CERTIFICATE_EXPIRED = "A certificate has expired."
    CLOCK_SKEW = "A certificate is not valid yet, or not any more, by a clock that is wrong."
    CERTIFICATE_REVOKED = "A certificate, an identity or its issuer has been revoked."
    CERTIFICATE_UNUSABLE = "The workload's own key, certificate or roots cannot be used."
    UNTRUSTED_ISSUER = "One end does not trust the issuer of the other's certificate."
    TRUST_DOMAIN_MISMATCH = "The two ends are of different trust domains."
    IDENTITY_MISMATCH = "Whoever answers has another identity than the workload that was called."
    TLS_HANDSHAKE = "The two proxies did not agree on a TLS connection."

    # From the name to an endpoint
    NAME_UNKNOWN = "The mesh has no service or workload of that name."
    NAME_ELSEWHERE = "The host's resolver knows the name by an address that is not of that service or workload."
    PORT_UNKNOWN = "The service does not have the port."
    NO_ENDPOINT = "The service has no endpoints."
    NO_HEALTHY_ENDPOINT = "All endpoints of the service are unhealthy or may not be used from here."
    AMBIGUOUS_ADDRESS = "Several workloads claim the address and port, and nobody can tell which one is meant."
    NO_ADDRESS = "The workload has no address that can be dialled."
    NETWORK_UNREACHABLE = "The destination is on another network, and there is no way from one to the other."
    WAYPOINT_UNKNOWN = "The waypoint that the destination names does not exist."
    WAYPOINT_UNHEALTHY = "The waypoint has no healthy endpoint."
    NO_ROUTE = "No route of the waypoint takes the request."
    RECURSIVE_CALL = "The connection would lead back into the proxy itself."
    NOT_HBONE = "The request in the tunnel is no CONNECT: whoever sent it does not speak HBONE."
    DESTINATION_MISMATCH = "The tunnel asks for something that is not the workload it reached."
    DESTINATION_NOT_CAPTURED = "The host that was reached has no single captured workload of that name or address."

    # On the way
    HBONE_REFUSED = "Nobody listens on the destination's HBONE port 15008."
    HBONE_BLOCKED = "The destination's HBONE port 15008 does not answer: a firewall or NetworkPolicy is in the way."
    CONNECT_FAILED = "The next hop could not be connected to."
    TUNNEL_LOST = "The tunnel between the two proxies failed."
    TUNNEL_OVERLOAD = "More connections wait for one tunnel, or more tunnels for their handshakes, than a proxy keeps."
    PEER_DECLINED = "The destination's proxy refused the connection; its log says why."

    # At the destination
    POLICY_DENIED = "A DENY policy matches."
    POLICY_NOT_ALLOWED = "There are ALLOW policies, and none of them matches."
    PLAINTEXT_REFUSED = "The destination takes mutual TLS only (PeerAuthentication STRICT), and this is plaintext."
    NETWORK_POLICY = "A NetworkPolicy does not admit the connection."
    POLICY_MISSING = "The workload names a policy that the agent has not got: it is not enforced."
    POLICY_CHANGED = "A policy came or changed, and the open connection was not allowed any more."
    APPLICATION_REFUSED = "The application does not accept connections on that port."

    # Afterwards
    DRAINED = "The agent was stopped, and the connection did not end in time."
    INTERRUPTED = "The other side broke the running connection off."
    OTHER = "The log line says what happened in its own words."


_GOOD = frozenset({Reason.MUTUAL_TLS, Reason.THROUGH_WAYPOINT, Reason.PLAINTEXT, Reason.PASSTHROUGH, Reason.OTHER})
"""What no failure is for."""

_STATED = re.compile(r"http status: [^,]*, the peer says ([a-z_]+)$")
"""As a client's proxy writes what the server's has answered."""

_TRUST_DOMAIN = re.compile(r"spiffe://([^/]+)/")

_IDENTITY = re.compile(r"spiffe://[^\s\"',)]+")
"""Names that are not for reading a code from: a service account may be called `revoked`."""

_TEXTS: tuple[tuple[str, Reason], ...] = (
    ("policy change", Reason.POLICY_CHANGED),
    ("istio_converted_static_strict", Reason.PLAINTEXT_REFUSED),
    ("converted_peer_authentication", Reason.PLAINTEXT_REFUSED),
    ("/network_policy_", Reason.NETWORK_POLICY),
    ("allow policies exist, but none allowed", Reason.POLICY_NOT_ALLOWED),
    ("explicitly denied by", Reason.POLICY_DENIED),
    ("policy rejection", Reason.POLICY_DENIED),
    ("connection drain", Reason.DRAINED),
    ("maybe a networkpolicy", Reason.HBONE_BLOCKED),
    ("recursive call", Reason.RECURSIVE_CALL),
    ("not of trust domain", Reason.TRUST_DOMAIN_MISMATCH),
    ("identity verification error", Reason.IDENTITY_MISMATCH),
    ("ip mismatch", Reason.DESTINATION_MISMATCH),
    ("expected method connect", Reason.NOT_HBONE),
    ("authority pseudo header", Reason.DESTINATION_MISMATCH),
    ("no single captured workload", Reason.DESTINATION_NOT_CAPTURED),
    ("does not know the server name", Reason.DESTINATION_NOT_CAPTURED),
    ("the peer has no certificate", Reason.CERTIFICATE_MISSING),
    ("is not captured any more", Reason.DESTINATION_NOT_CAPTURED),
    ("unknown source", Reason.SOURCE_UNKNOWN),
    ("information about local workload", Reason.SOURCE_UNKNOWN),
    ("original destination unknown", Reason.NOT_CAPTURED),
    ("unknown network gateway", Reason.NETWORK_UNREACHABLE),
    ("subjectaltnames do not say", Reason.NETWORK_UNREACHABLE),
    ("no healthy endpoint", Reason.WAYPOINT_UNHEALTHY),
    ("unknown waypoint", Reason.WAYPOINT_UNKNOWN),
    ("has no endpoints", Reason.NO_ENDPOINT),
    ("no endpoint of ", Reason.PORT_UNKNOWN),
    ("no healthy upstream", Reason.NO_HEALTHY_ENDPOINT),
    ("claimed by several workloads", Reason.AMBIGUOUS_ADDRESS),
    ("no ip addresses were resolved", Reason.NO_ADDRESS),
    ("has no ip addresses", Reason.NO_ADDRESS),
    ("the port is no workload's", Reason.PASSTHROUGH),
    ("registry_only", Reason.NAME_UNKNOWN),
    ("dns lookup", Reason.NO_ADDRESS),
    ("hostnames had to be resolved", Reason.NO_ADDRESS),
    ("no valid routing destination", Reason.NO_ADDRESS),
    ("socks5 is for captured", Reason.NOT_CAPTURED),
    ("no service for target address", Reason.NETWORK_UNREACHABLE),
    ("network gateway", Reason.NETWORK_UNREACHABLE),
    ("is on network", Reason.NETWORK_UNREACHABLE),
    ("no service or workload for hostname", Reason.NAME_UNKNOWN),
    ("cannot resolve port", Reason.PORT_UNKNOWN),
    ("revoked", Reason.CERTIFICATE_REVOKED),
    ("trusts the peer's issuer no more", Reason.CERTIFICATE_REVOKED),
    ("not yet valid", Reason.CLOCK_SKEW),
    ("not valid yet", Reason.CLOCK_SKEW),
    ("clock", Reason.CLOCK_SKEW),
    ("expired", Reason.CERTIFICATE_EXPIRED),
    ("unknown issuer", Reason.UNTRUSTED_ISSUER),
    ("unknownissuer", Reason.UNTRUSTED_ISSUER),
    ("identity error", Reason.CERTIFICATE_MISSING),
    ("tls error", Reason.CERTIFICATE_UNUSABLE),
    ("wait for a tunnel", Reason.TUNNEL_OVERLOAD),
    ("too many handshakes", Reason.TUNNEL_OVERLOAD),
    ("http status", Reason.PEER_DECLINED),
    ("h2 failed", Reason.TUNNEL_LOST),
    ("http2 handshake failed", Reason.TLS_HANDSHAKE),
    ("tls", Reason.TLS_HANDSHAKE),
    ("certificate", Reason.TLS_HANDSHAKE),
    ("clienthello", Reason.TLS_HANDSHAKE),
    ("connection failed", Reason.APPLICATION_REFUSED),
    ("receive:", Reason.INTERRUPTED),
    ("send:", Reason.INTERRUPTED),
    ("os error", Reason.CONNECT_FAILED),
    ("io error", Reason.CONNECT_FAILED),
)
"""What a failure's text contains, in lower case; the first that fits counts.

Names of services, workloads and hosts have no spaces: what several words say comes before what one word says, for that
could be a name (a service `clock`, a host `expired.example`).
"""

_FLAGS = {
    "DENY": Reason.POLICY_DENIED,
    "CERT_REVOKED": Reason.CERTIFICATE_REVOKED,
    "NETWORK_POLICY": Reason.HBONE_BLOCKED,
    "H2_HANDSHAKE_FAILURE": Reason.TUNNEL_LOST,
    "IDENTITY_ERROR": Reason.CERTIFICATE_MISSING,
    "TLS_FAILURE": Reason.TLS_HANDSHAKE,
    "CONNECT": Reason.CONNECT_FAILED,
}


def is_refusal(code: str) -> bool:
    """Whether a peer may give it as its reason to refuse."""
    return code in Reason.__members__ and Reason[code] not in _GOOD


def reason_of(error: str, flags: str = NO_FLAGS, destination: str = "") -> Reason:
    """The code of a failure.

    Args:
        error: what the log says, not empty.
        flags: its response flag.
        destination: `dst.addr`, where the connection was made to.
    """
    text = error.lower()
    if (stated := _STATED.match(text)) is not None and is_refusal(stated[1].upper()):
        return Reason[stated[1].upper()]
    said = _IDENTITY.sub("", text)
    found = next((reason for part, reason in _TEXTS if part in said), None) or _FLAGS.get(flags, Reason.OTHER)
    if found is Reason.CONNECT_FAILED and "refused" in text and destination.endswith(":15008"):
        return Reason.HBONE_REFUSED
    if found is Reason.IDENTITY_MISMATCH:
        wanted, _, presented = text.partition("got ")
        domains = set(_TRUST_DOMAIN.findall(wanted)), set(_TRUST_DOMAIN.findall(presented))
        return Reason.TRUST_DOMAIN_MISMATCH if all(domains) and domains[0].isdisjoint(domains[1]) else found
    return found
