"""One line for each sentence of how ambient proxies judge an L4 connection."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import SocketAddress
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Match,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)
from hostmesh.model.connection import Connection
from hostmesh.model.identity import Identity
from hostmesh.rbac.decide import Verdict, decide, matches

CLIENT = Identity("cluster.local", "shop", "web")
MTLS = Connection(
    source=SocketAddress.parse("10.0.0.1:40000"),
    destination=SocketAddress.parse("10.0.0.2:8080"),
    source_identity=CLIENT,
)
PLAIN = replace(MTLS, source_identity=None)
V6 = replace(MTLS, source=SocketAddress.parse("[2001:db8::1]:40000"))

EXACT, PREFIX, SUFFIX, PRESENCE = (
    StringMatchKind.EXACT,
    StringMatchKind.PREFIX,
    StringMatchKind.SUFFIX,
    StringMatchKind.PRESENCE,
)


def is_(text: str) -> tuple[StringMatch, ...]:
    return (StringMatch(EXACT, text),)


def starts(text: str) -> tuple[StringMatch, ...]:
    return (StringMatch(PREFIX, text),)


def ends(text: str) -> tuple[StringMatch, ...]:
    return (StringMatch(SUFFIX, text),)


PRESENT = (StringMatch(PRESENCE),)
WEB = (ServiceAccountMatch("shop", "web"),)


def cidrs(*texts: str) -> tuple[Any, ...]:
    return tuple(ip_network(text) for text in texts)


def policy(*rules: Rule, name: str = "p", action: Action = Action.ALLOW, dry_run: bool = False) -> Authorization:
    return Authorization(name, "shop", PolicyScope.NAMESPACE, action, rules, dry_run)


HIT, MISS = Match(destination_ports=(8080,)), Match(destination_ports=(9090,))

STRUCTURE = [
    ("no rules never match", (), False),
    ("a rule with no clauses matches", ((),), True),
    ("a clause with no groups matches", (((),),), True),
    ("a group with every list empty never matches", (((Match(),),),), False),
    ("an empty group does not spoil its clause", (((Match(), HIT),),), True),
    ("any rule suffices", (((MISS,),), ((HIT,),)), True),
    ("some rule must match", (((MISS,),), ((MISS,),)), False),
    ("all clauses of a rule must match", (((HIT,), (MISS,)),), False),
    ("all clauses of a rule match", (((HIT,), (HIT,)),), True),
    ("any group of a clause suffices", (((MISS, HIT),),), True),
    ("some group of a clause must match", (((MISS, MISS),),), False),
]


@pytest.mark.parametrize(("rule", "rules", "expected"), STRUCTURE, ids=[line[0] for line in STRUCTURE])
def test_rules_are_or_ed_clauses_and_ed_groups_or_ed(rule: str, rules: tuple[Rule, ...], expected: bool) -> None:
    """Structure of a policy."""
    assert matches(policy(*rules), MTLS) is expected


ATTRIBUTES = [
    ("destination port: any hit", Match(destination_ports=(1, 8080)), MTLS, True),
    ("destination port: no hit", Match(destination_ports=(1,)), MTLS, False),
    ("not destination port: hit", Match(not_destination_ports=(8080,)), MTLS, False),
    ("not destination port: no hit", Match(not_destination_ports=(1,)), MTLS, True),
    ("source IP in range", Match(source_ips=cidrs("10.0.0.0/24")), MTLS, True),
    ("source IP is a host", Match(source_ips=cidrs("10.0.0.1/32")), MTLS, True),
    ("source IP outside", Match(source_ips=cidrs("10.0.1.0/24")), MTLS, False),
    ("source IP judged on the peer, not the destination", Match(source_ips=cidrs("10.0.0.2/32")), MTLS, False),
    ("everything of IPv4", Match(source_ips=cidrs("0.0.0.0/0")), MTLS, True),
    ("v6 never matches a v4 range", Match(source_ips=cidrs("0.0.0.0/0")), V6, False),
    ("v4 never matches a v6 range", Match(source_ips=cidrs("::/0")), MTLS, False),
    ("v6 in range", Match(source_ips=cidrs("2001:db8::/32")), V6, True),
    ("not source IP: in range", Match(not_source_ips=cidrs("10.0.0.0/8")), MTLS, False),
    ("not source IP: other family", Match(not_source_ips=cidrs("::/0")), MTLS, True),
    ("destination IP in range", Match(destination_ips=cidrs("10.0.0.2/31")), MTLS, True),
    ("destination IP is the application's", Match(destination_ips=cidrs("10.0.0.1/32")), MTLS, False),
    ("not destination IP", Match(not_destination_ips=cidrs("10.0.0.2/32")), MTLS, False),
    ("service account", Match(service_accounts=WEB), MTLS, True),
    ("service account of another namespace", Match(service_accounts=(ServiceAccountMatch("x", "web"),)), MTLS, False),
    ("service account of another name", Match(service_accounts=(ServiceAccountMatch("shop", "x"),)), MTLS, False),
    (
        "service account ignores the trust domain",
        Match(service_accounts=WEB),
        replace(MTLS, source_identity=Identity("other", "shop", "web")),
        True,
    ),
    ("service account without identity: no hit", Match(service_accounts=WEB), PLAIN, False),
    ("empty account without identity: no hit", Match(service_accounts=(ServiceAccountMatch("", ""),)), PLAIN, False),
    ("not service account: hit", Match(not_service_accounts=WEB), MTLS, False),
    ("not service account without identity: passes", Match(not_service_accounts=WEB), PLAIN, True),
    ("principal exact", Match(principals=is_("cluster.local/ns/shop/sa/web")), MTLS, True),
    ("principal of another trust domain", Match(principals=is_("td/ns/shop/sa/web")), MTLS, False),
    ("principal written with the scheme", Match(principals=is_(str(CLIENT))), MTLS, False),
    ("principal prefix with the scheme never matches", Match(principals=starts("spiffe://")), MTLS, False),
    ("principal prefix", Match(principals=starts("cluster.local/ns/shop/")), MTLS, True),
    ("principal suffix", Match(principals=ends("/sa/web")), MTLS, True),
    ("principal prefix is at the beginning", Match(principals=starts("ns/shop/")), MTLS, False),
    ("principal suffix is at the end", Match(principals=ends("sa/we")), MTLS, False),
    ("principal presence", Match(principals=PRESENT), MTLS, True),
    ("principal presence without identity: no hit", Match(principals=PRESENT), PLAIN, False),
    ("empty principal prefix without identity: no hit", Match(principals=starts("")), PLAIN, False),
    ("not principal: hit", Match(not_principals=PRESENT), MTLS, False),
    ("not principal without identity: passes", Match(not_principals=PRESENT), PLAIN, True),
    ("namespace exact", Match(namespaces=is_("shop")), MTLS, True),
    ("namespace is no prefix match", Match(namespaces=is_("sho")), MTLS, False),
    ("namespace prefix", Match(namespaces=starts("sh")), MTLS, True),
    ("namespace suffix", Match(namespaces=ends("op")), MTLS, True),
    ("namespace prefix is at the beginning", Match(namespaces=starts("op")), MTLS, False),
    ("namespace suffix is at the end", Match(namespaces=ends("sh")), MTLS, False),
    ("namespace presence", Match(namespaces=PRESENT), MTLS, True),
    ("namespace presence on plaintext: empty is not present", Match(namespaces=PRESENT), PLAIN, False),
    ("empty exact namespace is plaintext", Match(namespaces=is_("")), PLAIN, True),
    ("empty prefix hits plaintext", Match(namespaces=starts("")), PLAIN, True),
    ("empty suffix hits plaintext", Match(namespaces=ends("")), PLAIN, True),
    ("case matters", Match(namespaces=is_("Shop")), MTLS, False),
    ("not namespace: hit", Match(not_namespaces=is_("shop")), MTLS, False),
    ("not namespace on plaintext: passes", Match(not_namespaces=is_("shop")), PLAIN, True),
    ("values of an attribute are OR-ed", Match(namespaces=is_("x") + is_("shop")), MTLS, True),
    ("attributes are AND-ed: both", Match(namespaces=is_("shop"), destination_ports=(8080,)), MTLS, True),
    ("attributes are AND-ed: one misses", Match(namespaces=is_("shop"), destination_ports=(1,)), MTLS, False),
    ("positive and negative of one attribute", Match(namespaces=starts("s"), not_namespaces=is_("shop")), MTLS, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "group", "connection", "expected"), ATTRIBUTES, ids=[line[0].replace(" ", "-") for line in ATTRIBUTES]
)
def test_attributes(rule: str, group: Match, connection: Connection, expected: bool) -> None:
    """What each attribute compares."""
    assert matches(policy(((group,),)), connection) is expected


ALL: Rule = ()
NEVER: Rule = ((MISS,),)
ALLOW = policy(ALL, name="allow")
ALLOW_OTHER = policy(NEVER, name="allow-other")
DENY = policy(ALL, name="deny", action=Action.DENY)
DENY_OTHER = policy(NEVER, name="deny-other", action=Action.DENY)
DRY_ALLOW_OTHER = policy(NEVER, name="dry-allow-other", dry_run=True)
DRY_ALLOW = policy(ALL, name="dry-allow", dry_run=True)
DRY_DENY = policy(ALL, name="dry-deny", action=Action.DENY, dry_run=True)

VERDICTS = [
    ((), Verdict(True, "no allow policies exist")),
    ((DENY_OTHER,), Verdict(True, "no allow policies exist")),
    ((ALLOW,), Verdict(True, "allowed by: shop/allow", ("shop/allow",))),
    ((ALLOW_OTHER, ALLOW), Verdict(True, "allowed by: shop/allow", ("shop/allow",))),
    ((ALLOW_OTHER,), Verdict(False, "allow policies exist, but none allowed", ("shop/allow-other",))),
    (
        (ALLOW_OTHER, DENY_OTHER, policy(name="empty")),
        Verdict(False, "allow policies exist, but none allowed", ("shop/allow-other", "shop/empty")),
    ),
    ((ALLOW, DENY), Verdict(False, "explicitly denied by: shop/deny", ("shop/deny",))),
    (
        (DRY_DENY,),
        Verdict(True, "no allow policies exist", (), ("dry-run: deny policy match: shop/dry-deny",)),
    ),
    (
        (DRY_ALLOW_OTHER,),
        Verdict(True, "no allow policies exist", (), ("dry-run: no allow policies match",)),
    ),
    (
        (DRY_DENY, DRY_ALLOW_OTHER),
        Verdict(
            True,
            "no allow policies exist",
            (),
            ("dry-run: deny policy match: shop/dry-deny", "dry-run: no allow policies match"),
        ),
    ),
    (
        (DRY_ALLOW, ALLOW_OTHER),
        Verdict(
            False,
            "allow policies exist, but none allowed",
            ("shop/allow-other",),
            ("dry-run: allow policy match: shop/dry-allow",),
        ),
    ),
    (
        (DRY_DENY, DRY_ALLOW, ALLOW),
        Verdict(
            True,
            "allowed by: shop/allow",
            ("shop/allow",),
            ("dry-run: deny policy match: shop/dry-deny", "dry-run: allow policy match: shop/dry-allow"),
        ),
    ),
]


@pytest.mark.parametrize(("policies", "verdict"), VERDICTS)
def test_verdicts(policies: tuple[Authorization, ...], verdict: Verdict) -> None:
    """DENY first; ALLOW only restricts where it exists; dry-run is reported and changes nothing."""
    assert decide(policies, MTLS) == verdict


def test_order_never_changes_the_outcome() -> None:
    """Only which policy is named may depend on the order."""
    for policies in permutations([ALLOW, ALLOW_OTHER, DENY, DRY_ALLOW]):
        assert not decide(policies, MTLS).allowed
    for policies in permutations([ALLOW, ALLOW_OTHER, DENY_OTHER, DRY_DENY]):
        assert decide(policies, MTLS).allowed


def test_strict_mutual_tls_is_a_policy() -> None:
    """PeerAuthentication STRICT arrives as a DENY of whoever has no principal."""
    strict = policy(((Match(not_principals=PRESENT),),), name="strict", action=Action.DENY)
    assert decide([strict], MTLS).allowed
    assert decide([strict], PLAIN) == Verdict(False, "explicitly denied by: shop/strict", ("shop/strict",))


POLICIES = st.lists(st.sampled_from([ALLOW, ALLOW_OTHER, DENY, DENY_OTHER, DRY_ALLOW, DRY_ALLOW_OTHER, DRY_DENY]))


@given(POLICIES)
def test_a_dry_run_never_decides(policies: list[Authorization]) -> None:
    """Leaving dry-run policies out changes nothing but the report."""
    enforced = [policy for policy in policies if not policy.dry_run]
    assert replace(decide(policies, MTLS), dry_run=()) == decide(enforced, MTLS)


def test_what_policies_on_trial_would_refuse() -> None:
    """A match of DENY, or of no ALLOW; a match of ALLOW is no news."""
    assert Verdict(True, "", (), ("dry-run: allow policy match: shop/a",)).would_refuse == ""
    found = Verdict(True, "", (), ("dry-run: deny policy match: shop/d", "dry-run: no allow policies match"))
    assert found.would_refuse == "dry-run: deny policy match: shop/d; dry-run: no allow policies match"
