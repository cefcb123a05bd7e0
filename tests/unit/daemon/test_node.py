"""Rules of membership, against a real control plane: certificate, then host key, then token."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.host_keys import HostKeys
from tests.support.mesh import TRUST_DOMAIN, Mesh, background, until
from tests.support.patience import PATIENCE

from hostmesh.daemon import node as node_module
from hostmesh.daemon.node import Membership
from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.enrolment import Sign
from hostmesh.identity.health import Health
from hostmesh.identity.host_key import HostKeyUnavailable
from hostmesh.identity.node import NodeStore
from hostmesh.rpc.channel import ControlPlane
from hostmesh.wire.host_proof import Statement

MONTH = 30 * 86400.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds on a host takes milliseconds here."""
    monkeypatch.setattr(node_module, "POLL_INTERVAL", 0.02)
    monkeypatch.setattr(node_module, "RETRY_INITIAL", 0.02)
    monkeypatch.setattr(node_module, "longest_pause", lambda _failure: 0.02)


async def no_key(_statement: Statement) -> tuple[bytes, ...]:
    raise HostKeyUnavailable("this host cannot sign with its SSH host key: there is none")


class Host:
    """mesh2, as its agent sees it; `clock` is its own."""

    def __init__(self, mesh: Mesh, sign: Sign) -> None:
        self.mesh = mesh
        self.clock: Callable[[], float] = time.time
        self.directory = mesh.directory / "mesh2"
        self.directory.mkdir(exist_ok=True)
        self.store = NodeStore(self.directory)
        self.token = self.directory / "join-token"
        self.renewed = 0
        self.sign = sign
        self.boot()

    def boot(self) -> None:
        """The agent starts, on what is on the disk."""
        anonymous = ControlPlane(self.mesh.endpoint, self.mesh.ca.root_path, now=self.now)
        known = ControlPlane(self.mesh.endpoint, self.mesh.ca.root_path, self.store.files, now=self.now)
        self.membership = Membership(
            anonymous,
            self.store,
            "mesh2",
            TRUST_DOMAIN,
            self.token,
            sign=self.sign,
            fetch=CaClient(known, 3600).fetch,
            now=self.now,
        )

    def now(self) -> float:
        return self.clock()

    def note(self) -> None:
        self.renewed += 1

    def serial(self) -> int:
        stored = self.store.load()
        return stored.serial if stored is not None else 0

    def keep(self) -> Coroutine[Any, Any, None]:
        return self.membership.keep(self.note)

    async def join(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.membership.join()


def scenario(directory: Path, sign: Sign | None, body: Callable[[Host], Coroutine[Any, Any, None]]) -> None:
    """Run it with mesh2 registered by its key, unless it has none (`sign` given)."""
    keys = HostKeys()

    async def main() -> None:
        mesh = Mesh(directory)
        if sign is None:
            mesh.nodes.add("mesh2", keys.public)
        async with mesh.serving():
            await body(Host(mesh, sign or keys.sign))

    asyncio.run(main())


def test_a_host_joins_by_its_key(tmp_path: Path) -> None:
    """Nobody types anything, no secret lies anywhere."""

    async def body(host: Host) -> None:
        await host.join()
        status = host.membership.status()
        assert status is not None
        assert (status.health, host.membership.waiting_for) == (Health.GOOD, "")
        assert host.serial()

    scenario(tmp_path, None, body)


def test_a_good_certificate_is_used_without_asking_anybody(tmp_path: Path) -> None:
    """A restart of the agent needs no control plane."""

    async def body(host: Host) -> None:
        await host.join()
        before = host.serial()
        host.sign = no_key
        host.boot()
        await host.mesh.server.stop()
        await host.join()
        assert host.serial() == before

    scenario(tmp_path, None, body)


def test_a_host_that_was_off_for_a_month_comes_back(tmp_path: Path) -> None:
    """Everything it has is expired; the clock of the control plane has gone on too."""

    async def body(host: Host) -> None:
        await host.join()
        before = host.serial()
        later = time.time() + MONTH
        host.clock = host.mesh.clock = host.mesh.ca._now = lambda: later
        host.boot()
        await host.join()
        assert host.serial() != before

    scenario(tmp_path, None, body)


def test_a_host_that_sleeps_while_the_agent_runs_comes_back(tmp_path: Path) -> None:
    """A suspended laptop: no restart, and those who waited for the certificate are told."""

    async def body(host: Host) -> None:
        await host.join()
        before = host.serial()
        async with background(host.keep()):
            await asyncio.sleep(0.02)
            later = time.time() + MONTH
            host.clock = host.mesh.clock = host.mesh.ca._now = lambda: later
            host.membership.doubt()
            await until(lambda: host.renewed)
        assert host.serial() != before
        assert host.membership.waiting_for == ""

    scenario(tmp_path, None, body)


def test_a_certificate_that_only_the_control_plane_calls_expired_is_replaced(tmp_path: Path) -> None:
    """The host's clock lags behind: its certificate is good by it, is refused all the same, and the key decides."""

    async def body(host: Host) -> None:
        host.mesh.ca._now = lambda: time.time() - 2 * 86400  # what it issues has expired for everybody else
        host.clock = host.mesh.ca._now
        await host.join()
        before = host.serial()
        host.mesh.ca._now = time.time
        async with background(host.keep()):
            await asyncio.sleep(0.02)
            host.membership.doubt()
            await until(lambda: host.renewed)
        assert host.serial() != before

    scenario(tmp_path, None, body)


def _close_to(seconds: float, pattern: str, text: str) -> bool:
    """Whether the difference of the clocks is named; the time that the answer took is in it."""
    named = re.search(pattern, text)
    return named is not None and abs(int(named[1]) - seconds) < 60


def test_clocks_that_differ_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By how much and in which direction, also where everything still works."""

    async def body(host: Host) -> None:
        host.clock = lambda: time.time() + 3600
        await host.join()

    scenario(tmp_path, None, body)
    assert _close_to(3600, r"this host's clock is (\d+) s ahead of the control plane's; compare them", caplog.text)


def test_a_clock_that_makes_everything_expired_is_a_reason_and_no_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Fresh certificates are over by it: one line, and when the clock is set the host joins."""

    async def body(host: Host) -> None:
        ahead = 2 * 86400.0
        host.clock = lambda: time.time() + ahead
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(host.join())
            await until(lambda: host.membership.waiting_for)
            await until(lambda: len(host.mesh.audited()) > 3)
            assert "has expired: by the control plane's clock" in host.membership.waiting_for
            assert _close_to(ahead, r"(\d+) s ahead of the control plane's", host.membership.waiting_for)
            host.clock = time.time

    scenario(tmp_path, None, body)
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1


def test_an_outage_is_waited_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line however long it lasts, and nobody has to restart anything."""

    async def body(host: Host) -> None:
        port = host.mesh.port
        await host.mesh.server.stop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(host.join())
            await until(lambda: "is unreachable" in host.membership.waiting_for)
            await asyncio.sleep(0.2)
            host.mesh.server.port = port
            await host.mesh.server.start()

    scenario(tmp_path, None, body)
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1


def test_a_token_that_somebody_leaves_is_used_and_removed(tmp_path: Path) -> None:
    """A host without a key waits for it; a refused one stays for its owner to see, and a better one is tried."""

    async def body(host: Host) -> None:
        host.token.write_text("nonsense")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(host.join())
            await until(lambda: "there is none; or mint a join token on" in host.membership.waiting_for)
            assert host.token.exists()
            host.token.write_text(host.mesh.tokens.mint("mesh2") + "\n")
        assert not host.token.exists()
        reasons = [e.get("reason") for e in host.mesh.audited()]
        assert reasons == ["TOKEN_UNKNOWN", None]

    scenario(tmp_path, no_key, body)


def test_a_host_that_joined_by_token_comes_back_by_its_key(tmp_path: Path) -> None:
    """The control plane has learned it then."""
    keys = HostKeys()

    async def body(host: Host) -> None:
        host.token.write_text(host.mesh.tokens.mint("mesh2"))
        await host.join()
        later = time.time() + MONTH
        host.clock = host.mesh.clock = host.mesh.ca._now = lambda: later
        host.boot()
        await host.join()

    scenario(tmp_path, keys.sign, body)


def test_a_damaged_key_file_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The host key admits, so nobody has to clean up."""

    async def body(host: Host) -> None:
        (host.directory / "node-key.pem").write_text("half a fi")
        await host.join()
        assert host.serial()

    scenario(tmp_path, None, body)
    assert "is damaged" in caplog.text


def test_a_full_disk_burns_no_token(tmp_path: Path) -> None:
    """It is found out before the token is sent; with room again, the host joins."""

    async def body(host: Host) -> None:
        host.token.write_text(host.mesh.tokens.mint("mesh2"))
        obstacle = host.directory / "node-key.pem.probe.new"
        obstacle.mkdir()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(host.join())
            await until(lambda: "cannot be written" in host.membership.waiting_for)
            obstacle.rmdir()
        assert [e["result"] for e in host.mesh.audited()] == ["admitted"]

    scenario(tmp_path, no_key, body)


def test_a_refused_host_asks_ever_more_rarely_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When somebody registers it, it joins."""
    keys = HostKeys()

    async def body(host: Host) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(host.join())
            await until(lambda: "NODE_UNKNOWN: no host key is registered for node" in host.membership.waiting_for)
            host.mesh.nodes.add("mesh2", keys.public)

    scenario(tmp_path, keys.sign, body)
    (line,) = [r.message for r in caplog.records if r.levelno >= logging.ERROR]
    assert "hostmesh node add --name mesh2 --host-key FILE" in line


def test_the_way_is_told_while_a_running_host_has_none(tmp_path: Path) -> None:
    """Readiness and status have the reason until it is a node again."""

    async def body(host: Host) -> None:
        await host.join()
        later = time.time() + MONTH
        host.clock = host.mesh.clock = host.mesh.ca._now = lambda: later
        host.mesh.nodes.remove("mesh2")
        async with background(host.keep()):
            await until(lambda: "NODE_UNKNOWN" in host.membership.waiting_for)

    scenario(tmp_path, None, body)
