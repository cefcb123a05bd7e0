"""mTLS of a waypoint: its own certificate, SPIFFE peers of the trust domain, TLS 1.3 (Istio HBONE)."""

from __future__ import annotations

from hostmesh.waypoint.shape import Json, file_source, typed

CERTIFICATE = "default"
ROOTS = "ROOTCA"
SECRETS_FILES = {CERTIFICATE: "sds-default.json", ROOTS: "sds-rootca.json"}


def downstream_tls(trust_domain: str, directory: str) -> Json:
    """Who comes in must show an identity of the trust domain; no session is resumed past that check."""
    return typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=_common(trust_domain, directory),
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )


def upstream_tls(trust_domain: str, directory: str) -> Json:
    """An endpoint must be who it is expected to be; the exact name travels as filter state, per endpoint."""
    return typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=_common(trust_domain, directory),
        max_session_keys=0,
    )


def secrets(chain_pem: str, key_pem: str, roots_pem: str, crls_pem: str = "") -> dict[str, Json]:
    """The secrets by their names; with lists of revoked certificates, each signer of leaves must have one."""
    trusted: Json = {"trusted_ca": {"inline_string": roots_pem}}
    if crls_pem:
        trusted |= {"crl": {"inline_string": crls_pem}, "only_verify_leaf_cert_crl": True}
    return {
        CERTIFICATE: {
            "name": CERTIFICATE,
            "tls_certificate": {
                "certificate_chain": {"inline_string": chain_pem},
                "private_key": {"inline_string": key_pem},
            },
        },
        ROOTS: {"name": ROOTS, "validation_context": trusted},
    }


def _common(trust_domain: str, directory: str) -> Json:
    matcher = {"san_type": "URI", "matcher": {"prefix": f"spiffe://{trust_domain}/"}}
    return {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [_secret(CERTIFICATE, directory)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [matcher]},
            "validation_context_sds_secret_config": _secret(ROOTS, directory),
        },
    }


def _secret(name: str, directory: str) -> Json:
    return {"name": name, "sds_config": file_source(directory, SECRETS_FILES[name])}
