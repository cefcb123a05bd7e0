"""Rules of the names that an on-demand client follows."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hostmesh.model.service import hostname_alias
from hostmesh.xds import interest as module
from hostmesh.xds.interest import IDLE, Interest, NotAsked

NAMES = [f"/10.0.0.{number}" for number in range(6)]


def test_a_name_is_asked_for_once_and_known_when_it_is_answered() -> None:
    """What others are told about is nobody's answer."""
    interest = Interest(["own"])
    assert interest.want("/10.0.0.1")
    assert not interest.want("/10.0.0.1")
    assert interest.news() == (["/10.0.0.1"], [])
    assert interest.news() == ([], [])
    assert interest.answered(["/10.0.0.2", "/10.0.0.1"], 5.0) == ["/10.0.0.1"]
    assert interest.knows("/10.0.0.1")
    assert interest.everything() == ["own", "/10.0.0.1"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "10.0.0.1",
        "/10.0.0.01",
        "/::ffff:10.0.0.1",
        "*/10.0.0.1",
        "/web",
        "a/b/web",
        "ns/web:80",
        "hostmesh.io/host/",
        "hostmesh.io/host/a/b",
        "a/" + "x" * 600,
    ],
)
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    """Main trusts nothing a worker says."""
    with pytest.raises(NotAsked):
        Interest().want(name)


@pytest.mark.parametrize(
    "name", ["/10.0.0.1", "net/fd00::1", "default/web.default.svc.cluster.local", hostname_alias("*.web.lab")]
)
def test_names(name: str) -> None:
    """Addresses of a network, services of a namespace, and hostnames of whatever namespace."""
    assert Interest().want(name)


def test_what_is_not_used_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, or when others need its place: then it goes first that was not used for the longest time."""
    monkeypatch.setattr(module, "MAX_NAMES", 2)
    interest = Interest()
    for now, name in enumerate(NAMES[:3]):
        interest.want(name)
        interest.answered([name], float(now))
    interest.used([NAMES[0], "/10.9.9.9"], 3.0)
    assert interest.expire(3.0) == [NAMES[1]]
    assert interest.expire(IDLE + 2.5) == [NAMES[2]]
    assert interest.known == (NAMES[0],)
    assert interest.news()[1] == [NAMES[1], NAMES[2]]


def test_too_many_questions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may make the agent's memory grow without end; answers make room."""
    monkeypatch.setattr(module, "MAX_ASKED", 1)
    interest = Interest()
    interest.want(NAMES[0])
    with pytest.raises(NotAsked, match="too many addresses"):
        interest.want(NAMES[1])
    interest.answered([NAMES[0]], 0.0)
    assert interest.want(NAMES[1])


def test_what_an_earlier_start_knew_gets_its_time_from_this_one() -> None:
    """The clock of the idle time is not that of an earlier start."""
    interest = Interest()
    interest.restore(["/10.0.0.1", "nonsense"])
    assert interest.known == ("/10.0.0.1",)
    assert interest.expire(1e9) == []
    assert interest.expire(1e9 + IDLE) == ["/10.0.0.1"]


class Following(RuleBasedStateMachine):
    """Whatever is wanted, answered and let go: what the control plane has been told is what is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.interest = Interest()
        self.server: set[str] = set()
        self.now = 0.0

    @rule(name=st.sampled_from(NAMES))
    def want(self, name: str) -> None:
        if not self.interest.knows(name):
            self.interest.want(name)

    @rule()
    def tell(self) -> None:
        subscribe, let_go = self.interest.news()
        self.server.difference_update(let_go)
        self.server.update(subscribe)

    @rule()
    def reconnect(self) -> None:
        self.server = set(self.interest.everything())

    @rule(names=st.sets(st.sampled_from(NAMES)))
    def answer(self, names: set[str]) -> None:
        self.interest.answered(names & self.server, self.now)

    @rule(names=st.sets(st.sampled_from(NAMES)))
    def refuse(self, names: set[str]) -> None:
        self.interest.give_up(names)

    @rule(names=st.sets(st.sampled_from(NAMES)), seconds=st.floats(0, IDLE))
    def pass_(self, names: set[str], seconds: float) -> None:
        self.now += seconds
        self.interest.used(names, self.now)
        self.interest.expire(self.now)

    @invariant()
    def what_is_known_is_followed(self) -> None:
        assert self.server >= set(self.interest.known)

    def teardown(self) -> None:
        self.tell()
        assert self.server == set(self.interest.everything())


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
