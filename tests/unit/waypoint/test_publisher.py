"""What reaches Envoy, and what does not."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.mesh import background, until
from tests.support.pki import Authority

from hostmesh.model.identity import Identity
from hostmesh.model.waypoint import (
    AppProtocol,
    L7Action,
    L7Policy,
    L7Rule,
    Route,
    RouteMatch,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.waypoint import publisher as publishing
from hostmesh.waypoint.envoy import Refused
from hostmesh.waypoint.generations import Generations
from hostmesh.waypoint.publisher import Publisher
from hostmesh.waypoint.shape import Json

WAYPOINT = Identity("cluster.local", "default", "wp")
PROGRAM = WaypointProgram("wp", "default", "cluster.local", str(WAYPOINT))


class Envoy:
    """Judges as the real one does: by what stands in the configuration."""

    def __init__(self) -> None:
        self.asked = 0

    async def validate(self, config: Json) -> None:
        self.asked += 1
        text = json.dumps(config)
        if '"port_value": 1}' in text:
            raise Refused("a bad port")
        if "/bad" in text:
            raise Refused("a bad path")


def test_a_refused_program_leaves_the_last_good_one_in_force_with_new_certificates(tmp_path: Path) -> None:
    """Nothing before there is a certificate; the reason is kept until a program is right again."""

    async def main() -> None:
        envoy, authority = Envoy(), Authority()
        publisher = Publisher(Generations(tmp_path), "127.0.0.1", envoy.validate)
        current = tmp_path / "current"
        async with background(publisher.run()):
            publisher.set_program(PROGRAM)
            publisher.set_credentials(authority.issue(WAYPOINT))
            await until(lambda: publisher.status.published == 1)
            before = (current / "sds-default.json").read_text()
            publisher.set_program(replace(PROGRAM, port=1))
            await until(lambda: publisher.status.error)
            assert '"port_value": 15008' in (current / "lds.json").read_text()
            publisher.set_credentials(authority.issue(WAYPOINT))
            await until(lambda: (current / "sds-default.json").read_text() != before)
            assert publisher.status.error == "a bad port"
            publisher.set_program(replace(PROGRAM, port=15009))
            await until(lambda: not publisher.status.error)
            assert '"port_value": 15009' in (current / "lds.json").read_text()

    asyncio.run(main())


def test_a_full_disk_is_tried_again_also_while_a_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waypoint goes on with what it has."""
    monkeypatch.setattr(publishing, "RETRY", 0.05)

    class Disk(Generations):
        full = False

        def publish(self, files: Mapping[str, Json]) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().publish(files)

    async def main() -> None:
        disk, authority = Disk(tmp_path), Authority()
        publisher = Publisher(disk, "127.0.0.1", Envoy().validate)
        async with background(publisher.run()):
            publisher.set_program(PROGRAM)
            publisher.set_credentials(authority.issue(WAYPOINT))
            await until(lambda: publisher.status.published == 1)
            disk.full = True
            publisher.set_program(replace(PROGRAM, port=1))
            await until(lambda: "No space left" in publisher.status.error)
            disk.full = False
            await until(lambda: publisher.status.published == 2)

    asyncio.run(main())


def test_a_waypoint_whose_gateway_is_gone_serves_nothing(tmp_path: Path) -> None:
    """It stays where it was, and every request is 404."""

    async def main() -> None:
        publisher = Publisher(Generations(tmp_path), "127.0.0.1", Envoy().validate)
        async with background(publisher.run()):
            publisher.set_program(replace(PROGRAM, port=15010))
            publisher.set_credentials(Authority().issue(WAYPOINT))
            await publisher.first.wait()
            publisher.set_program(None)
            await until(lambda: publisher.status.published == 2)
        assert '"port_value": 15010' in (tmp_path / "current" / "lds.json").read_text()

    asyncio.run(main())


def policy(name: str, path: str) -> L7Policy:
    return L7Policy(name, "shop", L7Action.DENY, (L7Rule((), ({"paths": (path,)},)),))


PORT = WaypointPort(
    80,
    AppProtocol.HTTP,
    routes=(
        Route("shop/a.com.0.0", RouteMatch(path="/good")),
        Route("shop/b.com.first.0", RouteMatch(path="/bad")),
        Route("shop/b.com.first.1", RouteMatch(path="/bad/2")),
    ),
)
SHOP = replace(PROGRAM, services=(WaypointService("shop", "web", ("10.96.0.1",), (replace(PORT, routes=()),)),))


@pytest.mark.parametrize(
    ("program", "error"),
    [
        (replace(SHOP, policies=(policy("a", "/good"), policy("b", "/bad"))), "AuthorizationPolicy shop/b: a bad path"),
        (replace(SHOP, services=(replace(SHOP.services[0], ports=(PORT,)),)), "the route shop/b.com: a bad path"),
        (replace(SHOP, policies=(policy("a", "/bad"), policy("b", "/bad"))), "a bad path"),
        (replace(SHOP, port=1), "a bad port"),
    ],
)
def test_the_document_that_is_refused_is_named(tmp_path: Path, program: WaypointProgram, error: str) -> None:
    """The one without which the rest would be taken, if there is one; said once, while the last good one is served."""

    async def main() -> None:
        publisher = Publisher(Generations(tmp_path), "127.0.0.1", Envoy().validate)
        async with background(publisher.run()):
            publisher.set_program(SHOP)
            publisher.set_credentials(Authority().issue(WAYPOINT))
            await publisher.first.wait()
            publisher.set_program(program)
            await until(lambda: publisher.status.error == error)
            publisher.set_credentials(Authority().issue(WAYPOINT))
            await until(lambda: publisher.status.published == 3)
            assert publisher.status.error == error

    asyncio.run(main())
