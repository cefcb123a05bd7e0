"""Exceptions for ambient traffic in NetworkPolicies: exactly those, and not a byte else."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.documents.adapt import PROBE4, PROBE6, adapt, lacks

MY_APP = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
spec:
  ingress:
  - ports:
    - port: 9090
      protocol: TCP
  podSelector:
    matchLabels:
      app.kubernetes.io/name: my-app
"""
MY_APP_ADAPTED = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
spec:
  ingress:
  - ports:
    - port: 9090
      protocol: TCP
    - port: 15008
      protocol: TCP
  podSelector:
    matchLabels:
      app.kubernetes.io/name: my-app
"""
DENY_INGRESS = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: deny-ingress
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: my-app
  policyTypes:
  - Ingress
"""
DENY_INGRESS_ADAPTED = (
    DENY_INGRESS
    + """\
  ingress:
  - from:
    - ipBlock:
        cidr: 169.254.7.127/32
"""
)
HEAD = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x}\n"


def test_istio_examples() -> None:
    """The two policies of Istio's page on ambient and NetworkPolicy."""
    assert adapt(MY_APP, "a.yaml") == MY_APP_ADAPTED
    assert adapt(DENY_INGRESS, "a.yaml") == DENY_INGRESS_ADAPTED


def policy(spec: str) -> str:
    return HEAD + "spec:\n" + "".join(f"  {line}\n" for line in dedent(spec).strip().splitlines())


PROBES = "- from:\n  - ipBlock:\n      cidr: 169.254.7.127/32\n"
UNCHANGED = [
    "podSelector: {}\ningress: [{}]",
    "podSelector: {}\npolicyTypes: [Egress]",
    "podSelector: {}\ningress: [{ports: [{protocol: UDP, port: 53}]}]",
    "podSelector: {}\ningress: [{ports: [{port: 15000, endPort: 16000}]}]",
    "podSelector: {}\ningress: [{ports: [{protocol: TCP}]}]",
    "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 169.254.0.0/16}}], ports: [{port: 15008}]}]",
    "podSelector: {}\npolicyTypes: [Egress]\negress: [{ports: [{port: 53, protocol: UDP}]}]",
    "podSelector: {}\npolicyTypes: [Egress]\ningress: [{ports: [{port: 80}]}]",
]


@pytest.mark.parametrize("spec", UNCHANGED)
def test_nothing_is_missing(spec: str) -> None:
    """What is open already, what admits no TCP, and directions that are not isolated."""
    assert adapt(policy(spec), "a.yaml") == policy(spec)
    assert lacks(policy(spec), "a.yaml") == ()


CHANGED = [
    # comments and order stay, in a block
    (
        """
        # who may come in
        ingress:
        - ports:  # web
          - port: 80   # plain
          # a comment below
          from:
          - podSelector: {}   # everybody here
        # and whom it is for
        podSelector: {}
        """,
        """
        # who may come in
        ingress:
        - ports:  # web
          - port: 80   # plain
          - port: 15008
            protocol: TCP
          # a comment below
          from:
          - podSelector: {}   # everybody here
        - from:
          - ipBlock:
              cidr: 169.254.7.127/32
        # and whom it is for
        podSelector: {}
        """,
    ),
    # in one line
    (
        "podSelector: {}\ningress: [{from: [{podSelector: {}}], ports: [{port: 80}, {port: http}]}] # all",
        (
            "podSelector: {}\ningress: [{from: [{podSelector: {}}], ports: [{port: 80}, {port: http}, "
            "{port: 15008, protocol: TCP}]}, {from: [{ipBlock: {cidr: 169.254.7.127/32}}]}] # all"
        ),
    ),
    # an empty list, and a key without a value
    (
        "ingress: []\npodSelector: {}",
        "ingress: [{from: [{ipBlock: {cidr: 169.254.7.127/32}}]}]\npodSelector: {}",
    ),
    (
        "ingress:\npodSelector: {}",
        "ingress: [{from: [{ipBlock: {cidr: 169.254.7.127/32}}]}]\npodSelector: {}",
    ),
    # both directions; both at the end of one list
    (
        """
        podSelector: {}
        egress:
        - to:
          - podSelector: {}
          ports:
          - port: 5432
        ingress:
        - from:
          - podSelector: {}
          ports:
          - port: 80
        """,
        """
        podSelector: {}
        egress:
        - to:
          - podSelector: {}
          ports:
          - port: 5432
          - port: 15008
            protocol: TCP
        ingress:
        - from:
          - podSelector: {}
          ports:
          - port: 80
          - port: 15008
            protocol: TCP
        - from:
          - ipBlock:
              cidr: 169.254.7.127/32
        """,
    ),
    # probes that an exception shuts out
    (
        "podSelector: {}\ningress:\n- from:\n  - ipBlock: {cidr: 0.0.0.0/0, except: [169.254.0.0/16]}",
        f"podSelector: {{}}\ningress:\n- from:\n  - ipBlock: {{cidr: 0.0.0.0/0, except: [169.254.0.0/16]}}\n{PROBES}",
    ),
]


@pytest.mark.parametrize(("before", "after"), CHANGED)
def test_adapted(before: str, after: str) -> None:
    """Only additions; and what is adapted lacks nothing any more."""
    assert adapt(policy(before), "a.yaml") == policy(after)
    assert adapt(policy(after), "a.yaml") == policy(after)


def test_other_documents_and_the_end_of_the_file() -> None:
    """Other kinds stay, each policy gets its own, a last line without an end gets one."""
    text = f"kind: Other\nspec: 1\n---\n{policy('podSelector: {}')}---\n# empty\n---\n{MY_APP.rstrip()}"
    changed = adapt(text, "a.yaml")
    assert changed.startswith("kind: Other\nspec: 1\n---\n")
    assert "podSelector: {}\n  ingress:\n" in changed
    assert changed.endswith("app.kubernetes.io/name: my-app")
    bare = adapt(DENY_INGRESS.rstrip(), "a.yaml")
    assert bare == DENY_INGRESS_ADAPTED.rstrip()


def test_json_and_line_ends() -> None:
    """JSON stays JSON, and lines end as they did."""
    text = '{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}}'
    assert adapt(text, "a.json").endswith(
        '"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "169.254.7.127/32"}}]}]}}'
    )
    windows = MY_APP.replace("\n", "\r\n")
    assert adapt(windows, "a.yaml") == MY_APP_ADAPTED.replace("\n", "\r\n")


def test_probes_of_both_families() -> None:
    """In one rule, where neither is admitted; only the missing one where one is."""
    both = adapt(DENY_INGRESS, "a.yaml", (PROBE4, PROBE6))
    assert both.startswith(DENY_INGRESS_ADAPTED)
    assert both.endswith(f"    - ipBlock:\n        cidr: {PROBE6}\n")
    assert adapt(DENY_INGRESS_ADAPTED, "a.yaml", (PROBE4, PROBE6)).endswith(
        f"  - from:\n    - ipBlock:\n        cidr: {PROBE6}\n"
    )


def test_what_is_said() -> None:
    """At the line of what lacks it."""
    text = policy("podSelector: {}\ningress:\n- from: [{podSelector: {}}]\n  ports:\n  - port: 80\negress: [{}]")
    assert [str(lack.problem) for lack in lacks(text, "a.yaml")] == [
        (
            "a.yaml:8: spec.ingress[0].ports: connections of the mesh arrive at TCP port 15008, "
            "which the rule does not admit"
        ),
        "a.yaml:6: spec.ingress: no rule admits health probes, which come from 169.254.7.127/32",
    ]


ALIASED = "podSelector: {}\ningress:\n- ports: &p [{port: 80}]\negress:\n- ports: *p\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (policy("podSelector: {}\ningress: [{ports: [{port: 0}]}]"), "a.yaml:6: spec.ingress"),
        (HEAD.replace("/v1", "/v9") + "spec: {podSelector: {}}", "a.yaml:1: apiVersion: must be networking.k8s.io/v1"),
        (policy(ALIASED), "an alias stands where an exception must be added"),
    ],
)
def test_refused(text: str, why: str) -> None:
    """Nothing is adapted that is wrong, or that would come to mean something else."""
    with pytest.raises(InvalidYaml, match=r"a\.yaml:") as raised:
        adapt(text, "a.yaml")
    assert why in str(raised.value)


_ports = st.fixed_dictionaries(
    {}, optional={"port": st.sampled_from([80, 15008, "http"]), "protocol": st.sampled_from(["TCP", "UDP"])}
)
_peers = st.sampled_from([{"podSelector": {}}, {"ipBlock": {"cidr": "169.254.0.0/16"}}, {"ipBlock": {"cidr": "::/0"}}])
_rules = st.fixed_dictionaries(
    {}, optional={"ports": st.lists(_ports, max_size=2), "from": st.lists(_peers, max_size=2)}
)
_specs = st.fixed_dictionaries(
    {"podSelector": st.sampled_from([{}, {"matchLabels": {"app": "web"}}])},
    optional={
        "ingress": st.none() | st.lists(_rules, max_size=2),
        "policyTypes": st.sampled_from([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
        "egress": st.lists(_rules.map(lambda rule: {k: v for k, v in rule.items() if k != "from"}), max_size=2),
    },
)


@settings(max_examples=100, deadline=None)
@given(_specs, st.sampled_from([False, True, None]), st.booleans())
def test_any_policy_in_any_style(spec: dict[str, object], style: bool | None, json_text: bool) -> None:
    """Adapted, nothing is lacking; what was written is still there, in its order; and it is adapted once."""
    value = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec}
    plain = json.loads(json.dumps(value))  # a value that stands twice would be written as an alias
    text = json.dumps(value) if json_text else yaml.safe_dump(plain, default_flow_style=style, sort_keys=False)
    adapted = adapt(text, "a.yaml", (PROBE4, PROBE6))
    assert lacks(adapted, "a.yaml", (PROBE4, PROBE6)) == ()
    assert adapt(adapted, "a.yaml", (PROBE4, PROBE6)) == adapted
    rest = iter(adapted)
    assert all(letter in rest for letter in text.replace("null", "").replace(" ", "").replace("\n", ""))
