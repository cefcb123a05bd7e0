"""Words for what went wrong in TLS."""

from __future__ import annotations

import pytest

from hostmesh.transport.tls.reasons import explain


@pytest.mark.parametrize(
    ("library", "verify", "verify_text", "reason"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", 0, "", "the peer refuses our certificate: unknown issuer"),
        ("tlsv1 alert unknown ca", 0, "", "the peer refuses our certificate: unknown issuer"),
        ("ssl/tls alert certificate expired", 0, "", "the peer refuses our certificate: expired"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", 0, "", "the peer refuses our certificate: expired"),
        (
            "TLSV13_ALERT_CERTIFICATE_REQUIRED",
            0,
            "",
            "the peer requires a client certificate and got none",
        ),
        ("TLSV1_UNRECOGNIZED_NAME", 0, "", "the peer does not know the server name"),
        ("tlsv1 alert internal error", 0, "", "the peer ended the TLS connection: internal error"),
        ("certificate verify failed", 10, "whatever", "the peer's certificate has expired"),
        ("CERTIFICATE_VERIFY_FAILED", 23, "", "the peer's certificate is revoked"),
        (
            "CERTIFICATE_VERIFY_FAILED",
            24,
            "invalid CA certificate",
            "the peer's certificate is not acceptable: invalid CA certificate",
        ),
        ("NO_SHARED_CIPHER", 0, "", "no TLS cipher suite in common with the peer"),
        ("something new", 0, "", "TLS failed: something new"),
        ("", 0, "", "TLS failed: no reason given by the library"),
    ],
)
def test_a_reason_is_one_line_for_people(library: str, verify: int, verify_text: str, reason: str) -> None:
    """Both libraries' spellings of the same fact give the same words; what is not known is passed on."""
    assert explain(library, verify, verify_text) == reason
