"""Rules of names that a control plane is asked for: waited for a bounded time, and not at all while it is away."""

from __future__ import annotations

import asyncio

import pytest

from hostmesh.daemon import name_demand as module
from hostmesh.daemon.name_demand import NameDemand
from hostmesh.model.service import hostname_alias
from hostmesh.state.store import MeshState


class Desk:
    """A part of the mesh, and what the control plane is asked."""

    def __init__(self) -> None:
        self.state = MeshState()
        self.state.follow_on_demand()
        self.asked: list[str] = []
        self.connected = True
        self.demand = NameDemand(self.state, self.asked.append, lambda: self.connected)

    def learn(self, *hostnames: str) -> None:
        names = [hostname_alias(name) for name in hostnames]
        for name in names:
            self.state.learn(name)
        self.demand.heard(names)


def test_who_follows_the_whole_mesh_asks_nobody() -> None:
    """What is not there then is no name of it."""
    desk = Desk()
    assert not NameDemand(MeshState(), desk.asked.append, lambda: True).missing(["web"])


def test_a_question_waits_until_all_its_names_are_known() -> None:
    """And is not asked again."""

    async def main() -> None:
        desk = Desk()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(desk.demand.ask(["b", "a"]))
            await asyncio.sleep(0)
            assert desk.asked == [hostname_alias("a"), hostname_alias("b")]
            desk.learn("a", "c")
            await asyncio.sleep(0)
            assert not asking.done()
            desk.learn("b")
            assert await asking
        assert await desk.demand.ask(["a", "b"])
        assert len(desk.asked) == 2

    asyncio.run(main())


def test_what_cannot_be_asked_for_is_not_waited_for() -> None:
    """The control plane is away, or has refused; whoever asked hears that it is not known."""

    async def main() -> None:
        desk = Desk()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(desk.demand.ask(["a"]))
            await asyncio.sleep(0)
            desk.demand.heard([hostname_alias("a")])
            assert not await asking
        desk.connected = False
        assert not await desk.demand.ask(["b"])
        assert desk.asked == [hostname_alias("a")]

    asyncio.run(main())


def test_a_control_plane_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver asks again before its client gives up."""
    monkeypatch.setattr(module, "WAIT", 0.01)
    assert not asyncio.run(Desk().demand.ask(["a"]))
