"""Whom the mesh has revoked: kept out of the program, and cut off where they are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.mesh import background, until
from tests.support.pki import ALICE, BOB, Authority

from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.trust import TrustBundle
from hostmesh.model.waypoint import (
    L7Action,
    WaypointEndpoint,
    WaypointPort,
    WaypointProgram,
    WaypointService,
)
from hostmesh.waypoint.process import EnvoyProcess
from hostmesh.waypoint.rbac import SERIALS
from hostmesh.waypoint.revoked import without_revoked
from hostmesh.waypoint.tunnels import ACCEPTED, OPENED, Peer, Tunnels
from hostmesh.wire.x509 import chain_keys

LEAF = Authority().issue(BOB).chain_pem
CAROL = Identity("cluster.local", "default", "carol")
PLACES = tuple(WaypointEndpoint(f"10.0.0.{number}", 80, str(one)) for number, one in enumerate((ALICE, CAROL)))
PROGRAM = WaypointProgram(
    "wp",
    "default",
    "cluster.local",
    services=(WaypointService("default", "web", ("10.96.0.1",), (WaypointPort(80, endpoints=PLACES),)),),
    workloads=PLACES,
)


def bundle(*serials: int, identities: Collection[Identity] = ()) -> TrustBundle:
    revoked = frozenset((b"issuer", serial) for serial in serials)
    return TrustBundle("cluster.local", b"", revoked, frozenset(identities))


def test_they_are_refused_before_everything_else_and_called_no_more() -> None:
    """By a rule for the whole waypoint; an endpoint that is somebody revoked gets nothing."""
    assert without_revoked(PROGRAM, None) == PROGRAM
    assert without_revoked(PROGRAM, bundle()) == PROGRAM
    made = without_revoked(PROGRAM, bundle(0xAB, identities=[ALICE, BOB]))
    (policy,) = made.policies
    assert (policy.action, policy.hostnames) == (L7Action.DENY, ())
    assert policy.rules[0].sources == (
        {"principals": ("cluster.local/ns/default/sa/alice", "cluster.local/ns/default/sa/bob")},
        {SERIALS: ("ab",)},
    )
    assert made.workloads == made.services[0].ports[0].endpoints == PLACES[1:]


class Envoy:
    """Writes reports, and is told what to close."""

    def __init__(self, path: Path) -> None:
        self.closed: list[Peer] = []
        self.insisted: list[bool] = []
        self.contained = False
        self._path = path

    def close(self, peers: Collection[Peer], insist: bool) -> bool:
        self.closed += peers
        self.insisted.append(insist)
        return insist or not self.contained

    def say(self, *lines: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())
        os.close(descriptor)


def report(side: str, address: str, certificate: bytes) -> str:
    return f"{side} {address} {quote(certificate.decode())}"


def key(credentials: Credentials) -> TrustBundle:
    (found, *_) = chain_keys(credentials.chain_pem)
    return TrustBundle("cluster.local", b"", frozenset({found}))


def test_tunnels_of_the_revoked_are_closed_whenever_they_are_heard_of(tmp_path: Path) -> None:
    """Those that are open, and those that come after; by certificate, by identity; accepted ones and opened ones."""
    authority = Authority()
    alice, bob, carol = (authority.issue(one) for one in (ALICE, BOB, CAROL))
    renewed = authority.issue(ALICE)

    async def main() -> None:
        envoy = Envoy(tmp_path / "tunnels")
        tunnels = Tunnels(tmp_path / "tunnels", envoy.close)
        async with background(tunnels.run()):
            envoy.say(
                report(ACCEPTED, "10.0.0.1:1", alice.chain_pem),
                report(ACCEPTED, "10.0.0.2:2", bob.chain_pem),
                report(ACCEPTED, "10.0.0.2:2", bob.chain_pem),
                report(OPENED, "10.0.0.9:3", carol.chain_pem),
                report(ACCEPTED, "[fd00::1]:4", renewed.chain_pem),
                "accepted 10.0.0.3:3 -",
                "nonsense",
                "",
            )
            await until(lambda: len(tunnels.known) == 4)
            assert envoy.closed == []
            tunnels.set_trust(key(alice))
            await until(lambda: envoy.closed == [(ACCEPTED, "10.0.0.1:1")])
            envoy.say(report(ACCEPTED, "10.0.0.2:2", alice.chain_pem))  # the port is somebody else's now
            await until(lambda: envoy.closed[1:] == [(ACCEPTED, "10.0.0.2:2")])
            envoy.say(report(ACCEPTED, "10.0.0.2:2", bob.chain_pem))
            await until(lambda: len(tunnels.known) == 3)
            tunnels.set_trust(TrustBundle("cluster.local", b"", frozenset(), frozenset({ALICE, CAROL})))
            await until(lambda: len(envoy.closed) == 4)
            assert sorted(envoy.closed[2:]) == [(ACCEPTED, "[fd00::1]:4"), (OPENED, "10.0.0.9:3")]
            await until(lambda: tunnels.known == {(ACCEPTED, "10.0.0.2:2")})
            assert envoy.insisted == [True, False, True]

    asyncio.run(main())


def test_it_insists_once_more_when_envoy_refuses_them(tmp_path: Path) -> None:
    """Where only all tunnels can be closed: somebody revoked who calls again and again must not end the others'."""
    line = report(ACCEPTED, "10.0.0.1:1", Authority().issue(ALICE).chain_pem)

    async def main() -> None:
        envoy = Envoy(tmp_path / "tunnels")
        envoy.contained = True
        tunnels = Tunnels(tmp_path / "tunnels", envoy.close)
        async with background(tunnels.run()):
            envoy.say(line)
            await until(lambda: tunnels.known)
            tunnels.set_trust(TrustBundle("cluster.local", b"", frozenset(), frozenset({ALICE})))
            await until(lambda: envoy.insisted == [True])
            envoy.say(line)
            await until(lambda: envoy.insisted == [True, False])
            assert tunnels.known
            tunnels.close_again()
            await until(lambda: envoy.insisted == [True, False, True])
            envoy.say(line)
            await until(lambda: len(envoy.insisted) == 4)
            tunnels.close_again()
            await until(lambda: envoy.insisted == [True, False, True, False, False])

    asyncio.run(main())


def test_a_report_may_come_in_pieces(tmp_path: Path) -> None:
    """A line counts when it is whole."""
    line = report(ACCEPTED, "10.0.0.1:1", Authority().issue(BOB).chain_pem).encode()

    async def main() -> None:
        tunnels = Tunnels(tmp_path / "tunnels", lambda *_: None)
        async with background(tunnels.run()):
            descriptor = os.open(tmp_path / "tunnels", os.O_WRONLY)
            for part in (line[:30], line[30:] + b"\nacc"):
                os.write(descriptor, part)
            os.close(descriptor)
            await until(lambda: tunnels.known == {(ACCEPTED, "10.0.0.1:1")})

    asyncio.run(main())


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_report_ends_the_reader(pieces: list[bytes]) -> None:
    """Whatever a name or a certificate looks like; what cannot be read is nobody."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "tunnels"
        good = report(ACCEPTED, "10.0.0.1:1", LEAF).encode()

        async def main() -> None:
            tunnels = Tunnels(path, lambda *_: None)
            async with background(tunnels.run()):
                descriptor = os.open(path, os.O_WRONLY)
                for piece in (*pieces, b"\n", good, b"\n"):
                    os.write(descriptor, piece)
                os.close(descriptor)
                await until(lambda: (ACCEPTED, "10.0.0.1:1") in tunnels.known)

        asyncio.run(main())


def test_where_single_connections_cannot_be_closed_envoy_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that forbid it; its supervisor starts it again, with what refuses the revoked."""

    def forbidden(*_: object) -> int:
        raise PermissionError(1, "its sockets cannot be reached")

    monkeypatch.setattr("hostmesh.waypoint.process.shut_down", forbidden)

    async def main() -> None:
        envoy = EnvoyProcess(tmp_path, tmp_path / "none", 1, lambda _: None)
        child = await asyncio.create_subprocess_exec("sleep", "60")
        envoy._processes.append(child)
        assert not envoy.close_tunnels([(ACCEPTED, "10.0.0.1:1")], insist=False)
        assert child.returncode is None
        assert envoy.close_tunnels([(ACCEPTED, "10.0.0.1:1")], insist=True)
        assert await child.wait() == -15

    asyncio.run(main())
