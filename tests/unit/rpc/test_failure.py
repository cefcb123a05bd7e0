"""Rules for texts: what, where, why and the next step."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from hostmesh.rpc.failure import Validity, alert_text, clock_text, connect_text, skew_text, timestamp

DAY = 86400.0
NOW = 1_800_000_000.0

CONNECT = [
    (
        ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"),
        "Connection refused (ECONNREFUSED); check that",
    ),
    (OSError(errno.EHOSTUNREACH, "x"), "No route to host (EHOSTUNREACH)"),
    (
        socket.gaierror(-2, "Name or service not known"),
        "cannot be resolved (Name or service not known); check",
    ),
    (TimeoutError(), "no answer within the connect time-out; check that a firewall lets this host reach TCP cp:15012"),
    (OSError("Multiple exceptions: a, b"), "Multiple exceptions: a, b"),
]


@pytest.mark.parametrize(("error", "words"), CONNECT)
def test_connect_text(error: OSError, words: str) -> None:
    """The address, the system's reason, and where to look."""
    text = connect_text("cp:15012", error)
    assert text.startswith("the control plane cp:15012 is unreachable: ")
    assert words in text


@pytest.mark.parametrize(
    ("validity", "words"),
    [
        (Validity(NOW - DAY, NOW + DAY), None),
        (Validity(NOW, NOW + DAY), None),
        (Validity(NOW + 1, NOW + DAY), "is not valid yet"),
        (Validity(NOW - DAY, NOW), "has expired"),
    ],
)
def test_clock_text(validity: Validity, words: str | None) -> None:
    """Both clocks are named when a certificate is outside its time by one of them."""
    text = clock_text("the certificate", validity, NOW)
    if words is None:
        assert text is None
    else:
        assert text is not None
        assert text.startswith(f"the certificate {words}: by the control plane's clock it is valid from ")
        assert f"this host's clock says {timestamp(NOW)}" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, None), (30, None), (-30, None), (31, "is 31 s ahead of the control"), (-7200, "is 7200 s behind the control")],
)
def test_skew_text(seconds: float, words: str | None) -> None:
    """By how much and in which direction; what certificates bear is not worth a word."""
    text = skew_text(seconds)
    if words is None:
        assert text is None
    else:
        assert text is not None
        assert words in text
        assert "timedatectl" in text


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "it has expired by the control plane's clock"),
        ("ssl/tls alert certificate expired", "it has expired by the control plane's clock"),
        ("TLSV1_ALERT_UNKNOWN_CA", "authority that the control plane does not know"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "it is not valid"),
        ("TLSV1_ALERT_INTERNAL_ERROR", None),
    ],
)
def test_alert_text(reason: str, words: str | None) -> None:
    """An alert about our certificate names its validity, this host's clock and the way back in."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
    text = alert_text("cp:15012", error, Validity(NOW - DAY, NOW - 1), NOW)
    if words is None:
        assert text is None
    else:
        assert text is not None
        assert words in text
        assert f"to {timestamp(NOW - 1)}; this host's clock says {timestamp(NOW)}" in text
        assert "enrol this node again" in text
