"""What a RequestAuthentication must obey."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals, warnings

TARGET = "targetRefs: [{group: '', kind: Service, name: web}]\n"


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("{issuer: a, jwksUri: 'https://a/keys'}", ""),
        ("{jwksUri: 'https://a/keys'}", "6: spec.jwtRules[0].issuer: issuer must be a non-empty string"),
        ("{issuer: a}", "6: spec.jwtRules[0]: neither jwks nor jwksUri is given"),
        ("{issuer: a, jwks: x, jwksUri: 'https://a'}", "6: spec.jwtRules[0].jwksUri: only one of jwks or jwksUri"),
        ("{issuer: a, jwks: x}", "6: spec.jwtRules[0].jwks: not a JSON Web Key Set"),
        ("{issuer: a, jwks: '{\"keys\": []}'}", "6: spec.jwtRules[0].jwks: no public key is in it"),
        (
            '{issuer: a, jwks: \'{"keys": [{"kty": "RSA"}]}\'}',
            "6: spec.jwtRules[0].jwks: key 0 cannot be read: ",
        ),
        (
            '{issuer: a, jwks: \'{"keys": [{"kty": "OKP", "crv": "Ed448", "x": "AA"}]}\'}',
            "6: spec.jwtRules[0].jwks: key 0 cannot be read: the curve 'Ed448' is not one of Ed25519",
        ),
        ("{issuer: a, jwksUri: 'http://a_b/'}", "6: spec.jwtRules[0].jwksUri: 'http://a_b/' is not an http or https"),
        (
            "{issuer: a, jwksUri: 'http://a', fromHeaders: [{name: 'x y'}]}",
            "6: spec.jwtRules[0].fromHeaders[0].name: 'x y' is not the name of a header",
        ),
        (
            "{issuer: a, jwksUri: 'https://a', timeout: soon}",
            "6: spec.jwtRules[0].timeout: 'soon' is not a duration above 0",
        ),
        ("{issuer: a, jwksUri: 'ftp://a'}", "6: spec.jwtRules[0].jwksUri: 'ftp://a' is not an http or https URI"),
    ],
)
def test_refused(rule: str, complaint: str) -> None:
    """A rule that could check no token is refused rather than refusing every token."""
    said = refusals(document("RequestAuthentication", f"{TARGET}jwtRules: [{rule}]"))
    assert (said[0] if said else "").startswith(complaint)
    assert bool(said) is bool(complaint)


def test_without_a_waypoint_nothing_checks_it() -> None:
    """Agents know no JWT."""
    (said,) = warnings(document("RequestAuthentication", "jwtRules: []"))
    assert "never enforced" in said
