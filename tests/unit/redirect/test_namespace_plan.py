"""The rules of a captured namespace: what they say, and what they must never say. What they do: tests/netns."""

from __future__ import annotations

from hostmesh.redirect.namespace_plan import namespace_rules, no_rules
from hostmesh.redirect.plan import ListenerPorts


def rules(chain: str, text: str) -> list[str]:
    prefix = f"add rule inet hostmesh {chain} "
    return [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]


def test_one_transaction_replaces_what_was_there() -> None:
    """Deleted and added again within it, so that no packet passes between."""
    lines = namespace_rules(ListenerPorts()).splitlines()
    assert lines[:3] == ["add table inet hostmesh", "delete table inet hostmesh", "add table inet hostmesh"]
    assert no_rules().splitlines()[:3] == lines[:3]


def test_released_means_no_rules_but_the_chains_that_translate() -> None:
    """What was redirected before goes on as long as there is a nat chain in the namespace."""
    assert [line.split()[1] for line in no_rules().splitlines()[3:]] == ["chain", "chain", "rule"]
    assert "redirect" not in no_rules()
    assert no_rules().count("type nat hook") == 2


def test_only_our_own_table_is_named() -> None:
    """What others have in the namespace stays as it is."""
    for line in namespace_rules(ListenerPorts(), (22,)).splitlines():
        assert line.split()[2:4] == ["inet", "hostmesh"]


def test_exemptions_come_before_the_capture() -> None:
    """In both directions the last rule redirects, and only connections that begin."""
    text = namespace_rules(ListenerPorts())
    for chain, port in (("outbound", 15001), ("inbound", 15006)):
        *exempt, last = rules(chain, text)
        assert all(" return comment " in rule for rule in exempt)
        assert last.startswith("tcp flags & (fin | syn | rst | ack) == syn redirect to :" + str(port))


def test_excluded_ports_join_the_proxys_own() -> None:
    """Sorted, so that the same settings give the same text."""
    (never,) = [rule for rule in rules("inbound", namespace_rules(ListenerPorts(), (9100, 22))) if "dport" in rule]
    assert never.startswith("tcp dport { 22, 9100, 15001, 15006, 15008 } return")


def test_ports_are_the_callers() -> None:
    """Nothing is written twice."""
    text = namespace_rules(ListenerPorts(25001, 25006, 25008))
    assert "redirect to :25001" in text
    assert "redirect to :25006" in text
    assert "1500" not in text
