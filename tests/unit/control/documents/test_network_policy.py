"""NetworkPolicy: every rule of Kubernetes' validation at its line, and the warnings about classic mistakes."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects, refusals, warnings

from hostmesh.control.documents.network_policy import ENFORCE_IN_TUNNEL, NetworkPolicyDocument
from hostmesh.control.documents.read import of_kind
from hostmesh.model.network_policy import Direction

SELECTOR = "podSelector: {matchLabels: {app: web}}\n"
INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS


def policy(spec: str, metadata: str = "name: x") -> str:
    """The spec begins with the selector on line 5."""
    return document("NetworkPolicy", SELECTOR + spec, metadata)


FULL = """
policyTypes: [Ingress, Egress]
ingress:
- from:
  - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}
  - namespaceSelector: {matchLabels: {team: a}}
    podSelector:
      matchExpressions:
      - {key: app, operator: In, values: [a, b]}
      - {key: tier, operator: NotIn, values: [db]}
      - {key: x/canary, operator: Exists}
      - {key: old, operator: DoesNotExist, values: []}
  ports:
  - {protocol: TCP, port: 6379}
  - {port: 32000, endPort: 32768}
  - {protocol: SCTP, port: metrics-2}
  - {protocol: UDP}
egress:
- to: [{ipBlock: {cidr: '2001:db8::/32', except: ['2001:db8:1::/48']}}]
- {}
"""


def test_everything_there_is() -> None:
    """A policy with every field is taken without a word."""
    assert refusals(policy(FULL)) == []
    assert warnings(policy(FULL)) == []


REFUSED = [
    (
        "ingres: []",
        ["6: spec.ingres: unknown field; did you mean 'ingress'? allowed: egress, ingress, podSelector, policyTypes"],
    ),
    ("policyTypes: [ingress]", ["6: spec.policyTypes[0]: input should be 'Ingress' or 'Egress' (got 'ingress')"]),
    (
        "ingress:\n- from:\n  - ipBlock:\n      cidr: 10.0.0.1/8",
        [
            (
                "9: spec.ingress[0].from[0].ipBlock.cidr: '10.0.0.1/8' has host bits set: the range is 10.0.0.0/8; "
                "for the one address write /32"
            )
        ],
    ),
    (
        "ingress:\n- from:\n  - ipBlock:\n      cidr: 10.0.0.0",
        [
            (
                "9: spec.ingress[0].from[0].ipBlock.cidr: '10.0.0.0' is not an address range like 10.0.0.0/8 or "
                "2001:db8::/32"
            )
        ],
    ),
    (
        "ingress:\n- from:\n  - ipBlock:\n      cidr: '::ffff:10.0.0.0/104'",
        [
            (
                "9: spec.ingress[0].from[0].ipBlock.cidr: '::ffff:10.0.0.0/104' would never match: write the "
                "IPv4 range "
                "without ::ffff:"
            )
        ],
    ),
    (
        (
            "egress:\n- to:\n  - ipBlock:\n      cidr: 10.0.0.0/8\n      except:\n      - 11.0.0.0/16\n"
            "      - 10.0.0.0/8\n"
            "      - '2001:db8::/64'\n      - 10.0.0.1/9"
        ),
        [
            (
                "11: spec.egress[0].to[0].ipBlock.except[0]: 11.0.0.0/16 is not a part of 10.0.0.0/8: "
                "an exception lies inside, and is smaller"
            ),
            (
                "12: spec.egress[0].to[0].ipBlock.except[1]: 10.0.0.0/8 is not a part of 10.0.0.0/8: "
                "an exception lies inside, and is smaller"
            ),
            (
                "13: spec.egress[0].to[0].ipBlock.except[2]: 2001:db8::/64 is not a part of 10.0.0.0/8: "
                "an exception lies inside, and is smaller"
            ),
            (
                "14: spec.egress[0].to[0].ipBlock.except[3]: '10.0.0.1/9' has host bits set: the range is 10.0.0.0/9; "
                "for the one address write /32"
            ),
        ],
    ),
    (
        "ingress:\n- from:\n  - ipBlock: {cidr: 10.0.0.0/8}\n    podSelector: {}",
        [
            "8: spec.ingress[0].from[0]: ipBlock stands alone: put the selectors into another element of the list",
        ],
    ),
    (
        "ingress:\n- from:\n  - ipBlock: {cidr: 10.0.0.0/8}\n    namespaceSelector: {}",
        [
            "8: spec.ingress[0].from[0]: ipBlock stands alone: put the selectors into another element of the list",
        ],
    ),
    (
        "ingress:\n- from:\n  - {}",
        [
            (
                "8: spec.ingress[0].from[0]: an empty peer: name an ipBlock, a podSelector or a namespaceSelector "
                "({} selects all)"
            )
        ],
    ),
    (
        "ingress:\n- ports:\n  - port: 80\n    protocol: ICMP",
        ["9: spec.ingress[0].ports[0].protocol: input should be 'TCP', 'UDP' or 'SCTP' (got 'ICMP')"],
    ),
    (
        "ingress:\n- ports:\n  - port: 0\n  - port: 65536\n  - port: 1.5\n  - port: true",
        [
            f"{line}: spec.ingress[0].ports[{number}].port: a number between 1 and 65535, or the name of a port "
            f"(got {value})"
            for number, (line, value) in enumerate([(8, "0"), (9, "65536"), (10, "1.5"), (11, "True")])
        ],
    ),
    (
        "ingress:\n- ports:\n  - port: '80'\n  - port: Http\n  - port: a-name-that-is-too-long\n  - port: a--b",
        [
            (
                "8: spec.ingress[0].ports[0].port: '80' is not a port name (1 to 15 of a-z, 0-9 and '-', at least one "
                "letter); for the number write it without quotes: 80"
            ),
            (
                "9: spec.ingress[0].ports[1].port: 'Http' is not a port name (1 to 15 of a-z, 0-9 and '-', at "
                "least one "
                "letter)"
            ),
            (
                "10: spec.ingress[0].ports[2].port: 'a-name-that-is-too-long' is not a port name (1 to 15 of "
                "a-z, 0-9 and "
                "'-', at least one letter)"
            ),
            "11: spec.ingress[0].ports[3].port: 'a--b' is not a port name: '-' must not follow '-'",
        ],
    ),
    (
        "ingress:\n- ports:\n  - port: 80\n    endPort: 79\n  - port: http\n    endPort: 90\n  - endPort: 90",
        [
            "9: spec.ingress[0].ports[0].endPort: 79 is less than port 80",
            "11: spec.ingress[0].ports[1].endPort: a range needs numbers: port is the name 'http'",
            "12: spec.ingress[0].ports[2].endPort: a range needs its first port; add port",
        ],
    ),
    (
        (
            "ingress:\n- from:\n  - podSelector:\n      matchExpressions:\n      - {key: a, operator: In}\n"
            "      - {key: a, operator: Exists, values: [b]}\n      - {key: -a, operator: NotIn, values: [b c]}\n"
            "      - {key: a, operator: Has}"
        ),
        [
            (
                "13: spec.ingress[0].from[0].podSelector.matchExpressions[3].operator: input should be 'In', 'NotIn', "
                "'Exists' or 'DoesNotExist' (got 'Has')"
            )
        ],
    ),
    (
        (
            "ingress:\n- from:\n  - podSelector:\n      matchExpressions:\n      - {key: a, operator: In}\n"
            "      - {key: a, operator: Exists, values: [b]}\n      - {key: -a, operator: NotIn, values: [b c]}"
        ),
        [
            "10: spec.ingress[0].from[0].podSelector.matchExpressions[0].values: In needs at least one value",
            "11: spec.ingress[0].from[0].podSelector.matchExpressions[1].values: Exists takes no values; remove them",
            (
                "12: spec.ingress[0].from[0].podSelector.matchExpressions[2].key: the key '-a' is not letters, digits, "
                "'-', '_' and '.' (1 to 63 of them)"
            ),
            (
                "12: spec.ingress[0].from[0].podSelector.matchExpressions[2].values[0]: the label value 'b c' is not "
                "letters, digits, '-', '_' and '.' (at most 63 of them)"
            ),
        ],
    ),
]


@pytest.mark.parametrize(("spec", "complaints"), REFUSED)
def test_refused(spec: str, complaints: list[str]) -> None:
    """Each mistake at its line and field, all of a document at once."""
    assert refusals(policy(spec)) == complaints


def test_the_policys_own_selector_is_checked() -> None:
    """One that can select nothing would protect nobody."""
    spec = "podSelector: {matchExpressions: [{key: app, operator: In}]}"
    said = "spec.podSelector.matchExpressions[0].values: In needs at least one value"
    assert [one.partition(": ")[2] for one in refusals(document("NetworkPolicy", spec))] == [said]


def test_bad_annotation() -> None:
    """Whether a policy holds in tunnels is yes or no."""
    text = policy("{}".strip("{}"), f"name: x, annotations: {{{ENFORCE_IN_TUNNEL}: 'no'}}")
    assert refusals(text) == [
        f'3: metadata.annotations.{ENFORCE_IN_TUNNEL}: must be "true" or "false" (got \'no\')',
    ]


WARNED = [
    (
        f"{SELECTOR}policyTypes: [Egress, Egress]",
        "6: spec.policyTypes: the same type stands twice: was the other one meant?",
    ),
    (
        "podSelector: {}",
        "5: spec.podSelector: selects by no label: the policy applies to every workload of its namespace",
    ),
    (
        f"{SELECTOR}egress: []",
        (
            "6: spec.egress: says nothing about egress, and the policy denies all ingress; to deny egress add "
            "policyTypes: [Egress]"
        ),
    ),
    (
        f"{SELECTOR}egress: [{{}}]\npolicyTypes: [Ingress]",
        "6: spec.egress: no effect: policyTypes does not name Egress, so the rules mean nothing; add it",
    ),
    (
        f"{SELECTOR}ingress: [{{}}]\npolicyTypes: [Egress]",
        "6: spec.ingress: no effect: policyTypes does not name Ingress, so the rules mean nothing; add it",
    ),
    (
        f"{SELECTOR}ingress:\n- from:\n  - namespaceSelector: {{}}\n  - podSelector: {{}}",
        (
            "9: spec.ingress[0].from[1]: two elements mean OR: these pods of the own namespace, and all pods of those "
            "namespaces. For AND write both selectors in one element, without the `-` before the second"
        ),
    ),
]


@pytest.mark.parametrize(("spec", "said"), WARNED)
def test_warned(spec: str, said: str) -> None:
    """What is legal, but hardly meant."""
    assert warnings(document("NetworkPolicy", spec)) == [said]


ISOLATES = [
    ("", {INGRESS}),
    ("egress: []", {INGRESS}),
    ("egress: [{}]", {INGRESS, EGRESS}),
    ("policyTypes: []", {INGRESS}),
    ("policyTypes: [Egress]", {EGRESS}),
    ("policyTypes: [Ingress]\negress: [{}]", {INGRESS}),
    ("policyTypes: [Egress, Ingress]", {INGRESS, EGRESS}),
]


@pytest.mark.parametrize(("spec", "isolates"), ISOLATES)
def test_default_of_policy_types(spec: str, isolates: set[Direction]) -> None:
    """Ingress always, egress where there is a rule for it; what is written counts alone."""
    (found,) = of_kind(objects(policy(spec)), NetworkPolicyDocument)
    assert found.resource.isolates == isolates


def test_annotation_about_tunnels() -> None:
    """True, false, or up to the mesh."""
    texts = [policy("", f"name: x, annotations: {{{ENFORCE_IN_TUNNEL}: '{word}'}}") for word in ("true", "false")]
    found = of_kind(objects(*texts, policy("")), NetworkPolicyDocument)
    assert [item.resource.in_tunnel for item in found] == [True, False, None]
