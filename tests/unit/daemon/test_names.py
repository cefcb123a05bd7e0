"""Main resolves for its workers: one look-up at a time for each name, never waiting for one that hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest
from tests.support.patience import PATIENCE

from hostmesh.daemon import names as module
from hostmesh.daemon.names import LIFETIME, RETRY, NameResolver, look_up
from hostmesh.wire.proto import worker_pb2 as pb


class Desk:
    """A resolver whose look-ups a test answers."""

    def __init__(self) -> None:
        self.answers: list[pb.NameAnswer] = []
        self.looked_up: list[str] = []
        self.stuck = threading.Event()
        self.resolver = NameResolver(lambda message: self.answers.append(message.name), self.look_up)

    def look_up(self, hostname: str) -> list[str]:
        self.looked_up.append(hostname)
        if hostname == "stuck.example":
            assert self.stuck.wait(PATIENCE)
        if hostname == "nowhere.example":
            raise socket.gaierror(-2, "Name or service not known")
        return ["192.0.2.1"]

    async def answered(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.answers) < count:
                await asyncio.sleep(0.01)

    def run(self, body: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(self.resolver.run())
                try:
                    await body()
                finally:
                    self.stuck.set()
                    running.cancel()

        asyncio.run(main())


def test_equal_questions_share_a_look_up() -> None:
    """And a name that hangs holds up nobody else."""
    desk = Desk()

    async def body() -> None:
        for name in ("stuck.example", "stuck.example", "db.example"):
            desk.resolver.want(name)
        await desk.answered(1)
        assert (desk.answers[0].hostname, list(desk.answers[0].addresses)) == ("db.example", ["192.0.2.1"])
        assert desk.answers[0].lifetime_seconds == LIFETIME
        desk.stuck.set()
        await desk.answered(2)

    desk.run(body)
    assert sorted(desk.looked_up) == ["db.example", "stuck.example"]


def test_a_failure_says_why() -> None:
    """With the resolver's words, and for a short time only."""
    desk = Desk()

    async def body() -> None:
        desk.resolver.want("nowhere.example")
        await desk.answered(1)

    desk.run(body)
    (answer,) = desk.answers
    assert (answer.reason, answer.lifetime_seconds) == ("nowhere.example: Name or service not known", RETRY)


@pytest.mark.parametrize("text", ["", "a b", "-x.example", "a..b", "x" * 300, "a\nb", "[::1]"])
def test_what_is_no_hostname_is_refused_at_once(text: str) -> None:
    """A worker is less privileged than main: nothing it says reaches the resolver unchecked."""
    desk = Desk()
    desk.resolver.want(text)
    assert [answer.reason.rpartition(": ")[2] for answer in desk.answers] == ["not a hostname"]


def test_too_many_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded; the workers ask again."""
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    desk = Desk()
    for name in ("a", "b", "c"):
        desk.resolver.want(name)
    assert [answer.hostname for answer in desk.answers] == ["c"]


def test_the_hosts_own_files_count() -> None:
    """Every host's /etc/hosts knows localhost, whatever its DNS says."""
    assert set(look_up("localhost")) & {"127.0.0.1", "::1"}
