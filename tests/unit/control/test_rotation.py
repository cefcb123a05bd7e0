"""Root rotation never strands an agent: the rules as tables, and a whole mesh of random agents as judge (R7)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.support.mesh import workload

from hostmesh.control.ledger import Entry
from hostmesh.control.rotation import (
    NodeTrust,
    Phase,
    Rotation,
    finish_blockers,
    node_trusts,
    observe,
    switch_blockers,
)

OVERLAP = Rotation(Phase.OVERLAP, 100.0, 100.0)
SWITCHED = replace(OVERLAP, phase=Phase.SWITCHED)
NOW = 200.0


@pytest.mark.parametrize(
    ("node", "blocked"),
    [
        (NodeTrust("a", connected=True, follows=True, current=True), True),  # current, and not observed yet
        (NodeTrust("a", connected=True, follows=True), True),
        (NodeTrust("a", connected=True), False),  # a proxy of another kind, with nothing from before
        (NodeTrust("a", connected=True, stale_until=NOW + 1), True),
        (NodeTrust("a", stale_until=NOW + 1), True),
        (NodeTrust("a", stale_until=NOW), False),
    ],
)
def test_the_new_root_signs_when_all_who_live_know_it(node: NodeTrust, blocked: bool) -> None:
    """Followers by their word, others by the certificates they live on; who has confirmed once is known for good."""
    reasons = switch_blockers(OVERLAP, [node], NOW)
    assert bool(reasons) is blocked
    assert all("a" in reason for reason in reasons)
    assert switch_blockers(replace(OVERLAP, confirmed=frozenset({"a"})), [node], NOW) == ()


def test_reasons_name_nodes_but_not_all_of_a_thousand() -> None:
    """What an operator can read."""
    nodes = [NodeTrust(f"n{number}", connected=True, follows=True) for number in range(1000)]
    (reason,) = switch_blockers(OVERLAP, nodes, NOW)
    assert reason == "connected, and not known to have the new root: n0, n1, n2, n3, n4 and 995 more"


def test_a_node_that_is_away_is_named_with_its_time() -> None:
    """The operator may wait, or fetch it, or force."""
    (reason,) = switch_blockers(OVERLAP, [NodeTrust("mesh3", stale_until=86400.0)], NOW)
    assert reason == "not connected, with certificates from before the rotation: mesh3 (until 1970-01-02 00:00:00 UTC)"


def test_observed_is_confirmed() -> None:
    """Only followers that hold the present bundle while they are connected; no news, no new value."""
    nodes = [
        NodeTrust("a", connected=True, follows=True, current=True),
        NodeTrust("b", connected=True, follows=True),
        NodeTrust("c", connected=True, current=True),
        NodeTrust("d", follows=True, current=True),
    ]
    seen = observe(OVERLAP, nodes)
    assert seen.confirmed == {"a"}
    assert observe(seen, nodes) is seen


def test_the_old_root_goes_when_nothing_of_it_lives() -> None:
    """And when all who are there have heard; before the switch there is nothing to finish."""
    good = NodeTrust("a", connected=True, follows=True, current=True)
    behind = NodeTrust("b", connected=True, follows=True)
    assert "does not sign yet" in finish_blockers(OVERLAP, [good], 0, NOW)[0]
    assert finish_blockers(SWITCHED, [good], NOW, NOW) == ()
    assert finish_blockers(SWITCHED, [good, behind], NOW, NOW) == ("connected, and without the present roots: b",)
    assert "of the old root may live until" in finish_blockers(SWITCHED, [good], NOW + 1, NOW)[0]
    reverted = replace(OVERLAP, phase=Phase.REVERTED)
    assert "of the new root may live until" in finish_blockers(reverted, [good], NOW + 1, NOW)[0]


def test_what_a_node_lives_on_is_its_newest_certificates() -> None:
    """An identity that was renewed in the overlap carries both roots; one that was not holds the node back."""
    web, db = workload("web"), workload("db")

    def entry(serial: int, identity: object, issued: float, not_after: float, node: str = "n") -> Entry:
        return Entry(serial, identity, node, "aa", issued, not_after)  # type: ignore[arg-type]

    renewed = [entry(1, web, 50, 900), entry(2, db, 60, 800), entry(3, web, 150, 990)]
    (trust,) = node_trusts(OVERLAP, renewed, {})
    assert trust == NodeTrust("n", stale_until=800)
    (trust,) = node_trusts(OVERLAP, [*renewed, entry(4, db, 160, 999)], {"n": (True, False)})
    assert trust == NodeTrust("n", connected=True, follows=True, current=False, stale_until=0)


LIFETIME = 100.0


@dataclass
class Agent:
    """A host with one workload. `follows` is false for a proxy that learns roots with certificates only."""

    name: str
    follows: bool
    connected: bool = True
    roots: frozenset[int] = frozenset()
    bundle: frozenset[int] = frozenset()
    dismissed: frozenset[int] = frozenset()
    signed_by: int = -1
    not_after: float = -1.0

    def alive(self, now: float) -> bool:
        return self.not_after > now


@dataclass
class Authority:
    """The control plane: root 0 at first; each rotation makes one more."""

    old: int = 0
    new: int | None = None
    rotation: Rotation | None = None
    alive_until: dict[int, float] = field(default_factory=dict)
    ledger: list[Entry] = field(default_factory=list)

    @property
    def roots(self) -> frozenset[int]:
        return frozenset({self.old} if self.new is None else {self.old, self.new})

    @property
    def signer(self) -> int:
        if self.rotation is not None and self.rotation.new_signs:
            assert self.new is not None
            return self.new
        return self.old


class MeshInRotation(RuleBasedStateMachine):
    """Agents come and go, renew late or not at all, hear of roots or not; the control plane goes on when it may."""

    @initialize(kinds=st.lists(st.booleans(), min_size=2, max_size=4))
    def begin(self, kinds: list[bool]) -> None:
        self.now = 0.0
        self.ca = Authority()
        self.agents = [Agent(f"n{number}", follows) for number, follows in enumerate(kinds)]
        for agent in self.agents:
            self.receive(agent)
            self.renew(agent)

    def receive(self, agent: Agent) -> None:
        if agent.follows:
            agent.dismissed |= agent.roots - self.ca.roots
            agent.roots = agent.bundle = self.ca.roots

    def renew(self, agent: Agent) -> None:
        ca = self.ca
        agent.signed_by, agent.not_after = ca.signer, self.now + LIFETIME
        ca.alive_until[ca.signer] = max(ca.alive_until.get(ca.signer, 0.0), agent.not_after)
        ca.ledger.append(Entry(len(ca.ledger), workload(agent.name), agent.name, "", self.now, agent.not_after))
        agent.roots = agent.roots | (ca.roots - agent.dismissed) if agent.follows else ca.roots

    @rule(index=st.integers(0, 3), what=st.sampled_from(["leave", "return", "hear", "renew"]))
    def an_agent(self, index: int, what: str) -> None:
        agent = self.agents[index % len(self.agents)]
        if what == "leave":
            agent.connected = False
        elif what == "return":
            agent.connected = True
        elif agent.connected and what == "hear":
            self.receive(agent)
        elif agent.connected:
            self.renew(agent)

    @rule(seconds=st.sampled_from([1.0, 30.0, LIFETIME / 2, LIFETIME]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.ca.rotation is None)
    @rule()
    def start(self) -> None:
        self.now += 0.5
        self.ca.new = max(self.ca.alive_until, default=0) + 1
        self.ca.rotation = Rotation(Phase.OVERLAP, self.now, self.now)

    @precondition(lambda self: self.ca.rotation is not None)
    @rule(wish=st.sampled_from(["look", "finish", "finish", "abort"]))
    def a_step(self, wish: str) -> None:
        ca = self.ca
        rotation = ca.rotation
        assert rotation is not None
        living = [entry for entry in ca.ledger if entry.not_after > self.now]
        sessions = {a.name: (a.follows, a.follows and a.bundle == ca.roots) for a in self.agents if a.connected}
        nodes = node_trusts(rotation, living, sessions)
        rotation = ca.rotation = observe(rotation, nodes)
        retiring = ca.old if rotation.new_signs else ca.new
        assert retiring is not None
        if wish == "look" and not switch_blockers(rotation, nodes, self.now):
            ca.rotation = replace(rotation, phase=Phase.SWITCHED)
        elif wish == "finish" and not finish_blockers(rotation, nodes, ca.alive_until.get(retiring, 0.0), self.now):
            ca.old, ca.new, ca.rotation = ca.signer, None, None
        elif wish == "abort" and rotation.phase is Phase.OVERLAP:
            ca.new, ca.rotation = None, None
        elif wish == "abort" and rotation.phase is Phase.SWITCHED:
            ca.rotation = replace(rotation, phase=Phase.REVERTED)

    @invariant()
    def whoever_lives_is_trusted_by_whoever_lives(self) -> None:
        living = [agent for agent in getattr(self, "agents", []) if agent.alive(self.now)]
        for one in living:
            assert one.signed_by in self.ca.roots, "the control plane refuses a certificate that has not expired"
            for other in living:
                assert one.signed_by in other.roots, f"{other.name} refuses {one.name}"


TestMeshInRotation = MeshInRotation.TestCase
TestMeshInRotation.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
