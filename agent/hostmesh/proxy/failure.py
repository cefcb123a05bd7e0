"""Why connections fail: ztunnel's error texts, each with the response flag that metrics and logs carry."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from hostmesh.model.address import SocketAddress
from hostmesh.telemetry.labels import NO_FLAGS
from hostmesh.telemetry.reasons import is_refusal


@dataclass(frozen=True, slots=True)
class Failure:
    """`error` is for the log, `flags` one of Istio's response flags, `policies` the deciding ones of a denial.

    `unproven`: somebody answers at the address, but not as who was meant; a neighbour there may be who is looked for.
    """

    error: str
    flags: str = NO_FLAGS
    policies: tuple[str, ...] = ()
    unproven: bool = False


RECURSIVE_CALL = "attempted recursive call to ourselves"

SUCCESS = Failure("")
DRAINED = Failure("connection closed due to connection drain")
HOSTS_PORT = Failure("the port is no workload's: the client is told to reach the host itself")
CROWDED_OUT = Failure("too many handshakes at once, and this one has taken longest")
CERTIFICATE_EXPIRED = Failure("connection closed: certificate expired", "IDENTITY_ERROR")
CERTIFICATE_REVOKED = Failure("connection closed: peer certificate revoked by CRL", "CERT_REVOKED")
OWN_CERTIFICATE_REVOKED = Failure("connection closed: own certificate revoked by CRL", "CERT_REVOKED")
ISSUER_DISMISSED = Failure("connection closed: the mesh trusts the peer's issuer no more", "CERT_REVOKED")


def denied(reason: str, policies: tuple[str, ...]) -> Failure:
    """RBAC said no before the connection was let through. The text names the policies, which ztunnel's need not."""
    unnamed = [policy for policy in policies if policy not in reason]
    named = f" ({', '.join(unnamed)})" if unnamed else ""
    return Failure(f"connection closed due to policy rejection: {reason}{named}", "DENY", policies)


def policy_changed(policies: tuple[str, ...]) -> Failure:
    """RBAC says no after the fact: a policy came or changed."""
    return Failure("connection closed due to policy change", "DENY", policies)


def app_connect(number: int) -> Failure:
    """Inbound: the application did not accept."""
    return Failure(f"connection failed: {_io(number)}", "CONNECT")


def connect(number: int) -> Failure:
    """Outbound: TCP to the next hop failed."""
    return Failure(f"io error: {_io(number)}", "CONNECT")


def hbone_connect(number: int, port: int) -> Failure:
    """Outbound: TCP to the next hop's HBONE port failed; a timeout looks like a firewall."""
    if number != errno.ETIMEDOUT:
        return connect(number)
    text = f"connection timed out, maybe a NetworkPolicy is blocking HBONE port {port}: {_io(number)}"
    return Failure(text, "NETWORK_POLICY")


def queue_full(address: SocketAddress) -> Failure:
    """Outbound: too many connections wait for one tunnel."""
    return Failure(f"io error: too many connections wait for a tunnel to {address}", "CONNECT")


def tls_handshake(reason: str) -> Failure:
    """Outbound: the TLS handshake failed, or the server is not who it should be."""
    return Failure(f"io error: {reason}", "CONNECT", unproven=True)


def not_trusted(objection: Failure) -> Failure:
    """Outbound: the server's certificate, or our own, has been revoked."""
    return Failure(f"io error: {objection.error.removeprefix('connection closed: ')}", objection.flags, unproven=True)


def http2_handshake(reason: str) -> Failure:
    """Outbound: the tunnel ended before the peer's SETTINGS. A refused client certificate shows here in TLS 1.3."""
    return Failure(f"http2 handshake failed: {reason}", "H2_HANDSHAKE_FAILURE", unproven=True)


def http2(reason: str) -> Failure:
    """A tunnel that worked died."""
    return Failure(f"h2 failed: {reason}", "H2_HANDSHAKE_FAILURE")


def broken(error: OSError) -> Failure:
    """The connection below a tunnel that worked broke."""
    return http2(os.strerror(error.errno or errno.EIO))


def http_status(status: int, stated: str = "") -> Failure:
    """Outbound: the peer's proxy refused the CONNECT, and may have stated the code of its reason."""
    said = f", the peer says {stated}" if is_refusal(stated) else ""
    return Failure(f"http status: {status} {_REASONS.get(status, '')}".rstrip() + said, "CONNECT")


def no_credentials(reason: str) -> Failure:
    """Outbound: no certificate of our own."""
    return Failure(f"identity error: {reason}", "IDENTITY_ERROR")


def tls_config(reason: str) -> Failure:
    """Our own key, chain or roots are not usable."""
    return Failure(f"tls error: {reason}", "TLS_FAILURE")


def receive(reason: str) -> Failure:
    """The peer's side of a running connection ended wrongly."""
    return Failure(f"receive: {reason}", "CONNECT")


def relayed(number: int, *, upwards: bool) -> Failure:
    """One of two joined connections broke, on the way to the server or from it, and its peer has not said so."""
    return Failure(f"{'send' if upwards else 'receive'}: io error: {_io(number)}", "CONNECT")


_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def _io(number: int) -> str:
    return f"{os.strerror(number)} (os error {number})"
