"""What went wrong in TLS, in words for people (RFC 8446 §6.2 alerts, OpenSSL reason strings)."""

from __future__ import annotations

from typing import Final

NO_ALPN: Final = "the peer does not offer the application protocol h2"
UNFINISHED: Final = "the TLS handshake is not complete"
TRUNCATED: Final = "the peer ended the connection without a TLS close_notify"
TRUNCATED_HANDSHAKE: Final = "the peer ended the connection during the TLS handshake"
WRITE_AFTER_CLOSE: Final = "the TLS connection is closed for writing"

_ALERTS: Final = {
    "certificate expired": "the peer refuses our certificate: expired",
    "certificate revoked": "the peer refuses our certificate: revoked",
    "certificate unknown": "the peer refuses our certificate: not acceptable to it",
    "certificate required": "the peer requires a client certificate and got none",
    "unknown ca": "the peer refuses our certificate: unknown issuer",
    "bad certificate": "the peer refuses our certificate: bad certificate",
    "unsupported certificate": "the peer refuses our certificate: unsupported kind",
    "access denied": "the peer refuses our certificate: access denied",
    "protocol version": "the peer does not speak TLS 1.3",
    "no application protocol": "the peer does not accept the application protocol h2",
    "handshake failure": "the peer found no common TLS parameters",
}

_LOCAL: Final = {
    "tlsv1 unrecognized name": "the peer does not know the server name",
    "tlsv1 certificate unobtainable": "the peer has no certificate for the server name",
    "peer did not return a certificate": "the peer sent no certificate",
    "no application protocol": NO_ALPN,
    "unsupported protocol": "the peer does not speak TLS 1.3",
    "wrong version number": "the peer does not speak TLS",
    "http request": "the peer speaks plain HTTP, not TLS",
    "https proxy request": "the peer speaks plain HTTP, not TLS",
    "no shared cipher": "no TLS cipher suite in common with the peer",
    "decryption failed or bad record mac": "a TLS record of the peer fails its integrity check",
}

_UNKNOWN_ISSUER: Final = "the peer's certificate has an unknown issuer"

_VERIFY: Final = {
    2: _UNKNOWN_ISSUER,  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
    7: _UNKNOWN_ISSUER,  # X509_V_ERR_CERT_SIGNATURE_FAILURE
    9: "the peer's certificate is not yet valid, or a clock is wrong",
    10: "the peer's certificate has expired",
    18: _UNKNOWN_ISSUER,  # X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
    19: _UNKNOWN_ISSUER,  # X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
    20: _UNKNOWN_ISSUER,  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: _UNKNOWN_ISSUER,  # X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
    23: "the peer's certificate is revoked",
    26: "the peer's certificate is not meant for this use",
}
"""By X509_V_ERR number (openssl/x509_vfy.h): the texts differ from one version to the next."""


def explain(library: str, verify: int = 0, verify_text: str = "") -> str:
    """One line for a failure.

    Args:
        library: OpenSSL's reason, as text or as symbol (`tlsv1 alert unknown ca`, `TLSV1_ALERT_UNKNOWN_CA`).
        verify: X509_V_ERR number if the certificate check is what failed.
        verify_text: the library's words for it.
    """
    text = library.lower().replace("_", " ")
    if text == "certificate verify failed":
        return _VERIFY.get(verify, f"the peer's certificate is not acceptable: {verify_text or verify}")
    _, is_alert, alert = text.partition(" alert ")
    if is_alert:
        return _ALERTS.get(alert, f"the peer ended the TLS connection: {alert}")
    return _LOCAL.get(text, f"TLS failed: {text or 'no reason given by the library'}")
