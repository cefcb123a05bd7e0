"""What went wrong between a host and its control plane, in words that say what, where, why and the next step."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from grpclib.const import Status

_ALERT_TEXTS = (
    ("CERTIFICATE_EXPIRED", "it has expired by the control plane's clock"),
    ("UNKNOWN_CA", "it was issued by a certificate authority that the control plane does not know"),
    ("CERTIFICATE_REVOKED", "it has been revoked"),
    ("BAD_CERTIFICATE", "it is not valid"),
    ("CERTIFICATE_UNKNOWN", "it is not acceptable"),
    ("DECRYPT_ERROR", "it was issued by another authority of the same name"),
)

SKEW_TOLERATED = 30.0
"""Seconds between two clocks that certificates bear: they are backdated by more, unless they are very short-lived."""

_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_NAME_MISMATCH = frozenset((62, 64))  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


class Failure(Enum):
    """Kind of a failed call: state changes and log lines are told apart by it."""

    LOCAL = "local files"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "certificate not trusted"
    CLOCK = "clock skew"
    NOT_ADMITTED = "node not admitted"
    REFUSED = "refused"
    LOST = "connection lost"
    BROKEN = "error"


class ControlPlaneError(Exception):
    """A call to the control plane failed. The text is for the user.

    `status` and `detail` (its message) are set if the control plane answered.
    """

    def __init__(self, failure: Failure, text: str, status: Status | None = None, detail: str | None = None) -> None:
        super().__init__(text)
        self.failure = failure
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate is valid, in seconds since the epoch."""

    not_before: float
    not_after: float

    def __str__(self) -> str:
        return f"from {timestamp(self.not_before)} to {timestamp(self.not_after)}"


def timestamp(seconds: float) -> str:
    """RFC 3339 in whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_text(whose: str, validity: Validity, now: float) -> str | None:
    """What to say of a certificate that is not valid by this host's clock; None if it is.

    Args:
        whose: the subject of the sentence, as in "the control plane's certificate".
        validity: by the issuer's clock.
        now: by this host's clock.
    """
    if validity.not_before <= now < validity.not_after:
        return None
    what = "is not valid yet" if now < validity.not_before else "has expired"
    return (
        f"{whose} {what}: by the control plane's clock it is valid {validity}, but this host's clock says "
        f"{timestamp(now)}; compare the clocks of both hosts (timedatectl) and set the wrong one"
    )


def skew_text(seconds: float) -> str | None:
    """What to say of clocks that differ; None if they agree well enough for certificates.

    Args:
        seconds: by which this host's clock is ahead of the control plane's.
    """
    if abs(seconds) <= SKEW_TOLERATED:
        return None
    direction = "ahead of" if seconds > 0 else "behind"
    return (
        f"this host's clock is {abs(seconds):.0f} s {direction} the control plane's; compare them (timedatectl) and "
        "set the wrong one"
    )


def connect_text(endpoint: str, error: OSError | TimeoutError) -> str:
    """Why there is no TCP connection, and what to check."""
    if isinstance(error, socket.gaierror):
        why = f"its name cannot be resolved ({error.strerror})"
        step = "check control_plane.address in agent.yaml and this host's resolver"
    elif isinstance(error, TimeoutError):
        why = "no answer within the connect time-out"
        step = f"check that a firewall lets this host reach TCP {endpoint}"
    else:
        why = _errno_text(error)
        step = "check that hostmesh-control-plane.service runs there and that the address and port are right"
    return f"the control plane {endpoint} is unreachable: {why}; {step}"


def _errno_text(error: OSError) -> str:
    if error.errno is None:  # asyncio joins the texts of several addresses
        return str(error)
    name = errno.errorcode.get(error.errno, str(error.errno))
    return f"{os.strerror(error.errno)} ({name})"


def is_clock(error: ssl.SSLCertVerificationError) -> bool:
    """Whether verification failed for time alone."""
    return error.verify_code in (_NOT_YET_VALID, _EXPIRED)


def untrusted_text(endpoint: str, root_cert: str, error: ssl.SSLCertVerificationError) -> str:
    """Why the certificate that the control plane showed was not believed."""
    if error.verify_code in _NAME_MISMATCH:
        return (
            f"the certificate of the control plane {endpoint} is for another name ({error.verify_message}); set "
            "control_plane.server_name in agent.yaml to a name it carries, or add this one to the control plane's names"
        )
    return (
        f"the certificate of the control plane {endpoint} is not trusted ({error.verify_message}); {root_cert} must "
        "hold the root certificate of this control plane: copy ca/root-cert.pem from its state directory"
    )


def alert_text(endpoint: str, error: ssl.SSLError, node: Validity | None, now: float) -> str | None:
    """What the control plane's TLS alert says about this node's certificate; None if it is about something else."""
    reason = str(error.reason or error).upper().replace(" ", "_")
    why = next((text for fragment, text in _ALERT_TEXTS if fragment in reason), None)
    if why is None:
        return None
    return f"the control plane {endpoint} did not accept this node's certificate: {why}.{_way_back(node, now)}"


def hung_up_text(endpoint: str, node: Validity | None, now: float) -> str:
    """For a connection that ended after the handshake without a byte; asyncio servers send no alert."""
    return (
        f"the control plane {endpoint} hung up as it does when it does not accept this node's certificate."
        f"{_way_back(node, now)}"
    )


def _way_back(node: Validity | None, now: float) -> str:
    validity = f" It is valid {node}; this host's clock says {timestamp(now)}." if node else ""
    return (
        f"{validity} The agent goes on to prove its SSH host key; if that is refused too, compare the clocks of both "
        "hosts (timedatectl), or enrol this node again with a join token"
    )
