"""PeerAuthentication: Istio's rules."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals, warnings

PORTS = "mesh/namespace peer authentication cannot have port level mTLS; add a selector with labels"

REFUSED = [
    (
        "mtls: {mode: strict}",
        ["5: spec.mtls.mode: input should be 'UNSET', 'DISABLE', 'PERMISSIVE' or 'STRICT' (got 'strict')"],
    ),
    ("portLevelMtls: {8080: {mode: STRICT}}", [f"5: spec.portLevelMtls: {PORTS}"]),
    (
        "selector: {matchLabels: {}}\nportLevelMtls: {8080: {mode: STRICT}}",
        [f"6: spec.portLevelMtls: {PORTS}"],
    ),
    (
        "selector: {matchLabels: {a: b}}\nportLevelMtls: {}",
        [
            "6: spec.portLevelMtls: port level mTLS must have at least one element; name a port or remove the field",
        ],
    ),
    (
        "selector: {matchLabels: {a: b}}\nportLevelMtls:\n  0: {mode: STRICT}\n  http: {}\n  65536: {}",
        [
            "7: spec.portLevelMtls.0: '0' is not a port between 1 and 65535",
            "8: spec.portLevelMtls.http: 'http' is not a port between 1 and 65535",
            "9: spec.portLevelMtls.65536: '65536' is not a port between 1 and 65535",
        ],
    ),
    (
        "selector: {matchLabels: {a: 'b*'}}",
        [
            "5: spec.selector.matchLabels.a: wildcards are not supported in a selector; name the label's exact value",
        ],
    ),
    (
        "selector: {matchLables: {a: b}}",
        ["5: spec.selector.matchLables: unknown field; did you mean 'matchLabels'? allowed: matchLabels"],
    ),
]


@pytest.mark.parametrize(("spec", "complaints"), REFUSED)
def test_refused(spec: str, complaints: list[str]) -> None:
    """Each rule names the field's line."""
    assert refusals(document("PeerAuthentication", spec)) == complaints


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("mtls: {mode: STRICT}", []),
        (
            "mtls: {mode: DISABLE}",
            ["5: spec.mtls.mode: means PERMISSIVE here: HBONE is always accepted beside plaintext. Write PERMISSIVE"],
        ),
        (
            "selector: {}",
            [
                (
                    "5: spec.selector: selects by no label: the policy applies to the whole namespace. "
                    "Remove the selector to say so plainly"
                )
            ],
        ),
    ],
)
def test_warned(spec: str, said: list[str]) -> None:
    """What is legal but probably not meant."""
    assert warnings(document("PeerAuthentication", spec)) == said


def test_spec_may_be_left_out() -> None:
    """An empty object inherits everything."""
    assert refusals(document("PeerAuthentication")) == []
