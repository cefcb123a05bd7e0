"""What differs, as a pure decision; apply's suite proves it from the outside."""

from __future__ import annotations

import pytest

from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.compare import Applied, Seen, compare, is_complete, transaction
from hostmesh.redirect.plan import CapturedUnit, plan

WEB = CapturedUnit(
    LocalWorkload(1, "web", "prod", Identity("cluster.local", "prod", "web"), "web.service"), "system.slice/web.service"
)
RULESET = plan([WEB])
LISTING = "table inet hostmesh {\n\tchain outbound {\n\t\tip daddr 127.0.0.0/8 return\n\t}\n}\n"
APPLIED = Applied(RULESET.digest, LISTING)
ID = 77
GOOD = {"workloads_2": dict([WEB.map_element(ID)]), "owners_2": dict([WEB.set_element(ID)])}
OTHER = {"workloads_2": {WEB.map_element(ID)[0]: b"\x00\x70\x00\x00"}, "owners_2": dict([WEB.set_element(ID)])}
RUNS = {WEB.cgroup: ID}

CASES = [
    ("as planned", Seen(LISTING, GOOD, RUNS), APPLIED, ()),
    ("not running, nothing there", Seen(LISTING, {}, {}), APPLIED, ()),
    ("no table", Seen(None, {}, {}), APPLIED, ("table inet hostmesh is not there",)),
    ("nothing remembered", Seen(LISTING, GOOD, RUNS), None, ("table inet hostmesh has rules of another plan",)),
    (
        "another plan",
        Seen(LISTING, GOOD, RUNS),
        Applied("x", LISTING),
        ("table inet hostmesh has rules of another plan",),
    ),
    (
        "a rule changed",
        Seen(LISTING.replace("127.0.0.0/8", "10.0.0.0/8"), GOOD, RUNS),
        APPLIED,
        (
            "table inet hostmesh: missing: ip daddr 127.0.0.0/8 return",
            "table inet hostmesh: foreign: ip daddr 10.0.0.0/8 return",
        ),
    ),
    (
        "not captured",
        Seen(LISTING, {}, RUNS),
        APPLIED,
        ("web.service runs, but is not captured as prod/web",),
    ),
    (
        "half captured",
        Seen(LISTING, {"workloads_2": GOOD["workloads_2"]}, RUNS),
        APPLIED,
        ("web.service runs, but is not captured as prod/web",),
    ),
    (
        "another's mark",
        Seen(LISTING, OTHER, RUNS),
        APPLIED,
        (
            "web.service runs, but is not captured as prod/web",
            "web.service has the mark 0x7000 of another workload",
        ),
    ),
    (
        "stopped",
        Seen(LISTING, GOOD, {}),
        APPLIED,
        ("workloads_2 has 1 element of no running unit", "owners_2 has 1 element of no running unit"),
    ),
]


@pytest.mark.parametrize(
    ("seen", "applied", "described"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_compare(seen: Seen, applied: Applied | None, described: tuple[str, ...]) -> None:
    """Each difference has its words; none means that nothing will be done."""
    differences = compare(RULESET, seen, applied)
    assert differences.describe() == described
    assert bool(differences) is bool(described)


def test_leftovers_need_no_transaction_of_nft() -> None:
    """They are deleted by id, which nft cannot name."""
    seen = Seen(LISTING, GOOD, {})
    assert transaction(RULESET, seen, compare(RULESET, seen, APPLIED)) == ""


def test_renumbering_deletes_before_it_adds() -> None:
    """In one transaction: a map refuses a second value for a key."""
    seen = Seen(LISTING, OTHER, RUNS)
    lines = transaction(RULESET, seen, compare(RULESET, seen, APPLIED)).splitlines()
    assert [line.split(" {")[0] for line in lines] == [
        "delete element inet hostmesh workloads_2",
        "add element inet hostmesh workloads_2",
        "add element inet hostmesh owners_2",
    ]


def test_what_the_plan_has_not_is_deleted_chains_first() -> None:
    """A chain that uses a set must go before it; sets in use stay."""
    listing = "table inet hostmesh {\n\tmap workloads_3 {\n\t}\n\tset owners_3 {\n\t}\n\tchain old {\n\t}\n}\n"
    seen = Seen(listing, {}, {})
    text = transaction(RULESET, seen, compare(RULESET, seen, None))
    assert text == RULESET.rules + (
        "flush chain inet hostmesh old\n"
        "delete chain inet hostmesh old\n"
        "delete map inet hostmesh workloads_3\n"
        "delete set inet hostmesh owners_3\n"
    )


@pytest.mark.parametrize("listing", [None, "", LISTING])
def test_a_listing_that_is_not_all_of_the_plan(listing: str | None) -> None:
    """Nothing is remembered as ours that is not."""
    assert not is_complete(RULESET, listing)
