"""Certificates: held, waited for, renewed, forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.support.pki import ALICE, BOB, HOUR, Authority, now

from hostmesh.model.identity import Identity
from hostmesh.proxy.certificates import Certificate, Certificates
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.system import SystemTls


@dataclass
class World:
    authority: Authority = field(default_factory=Authority)
    time: float = field(default_factory=now)
    asked: list[Identity] = field(default_factory=list)
    answers: list[tuple[Certificate | None, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = Loop(clock=lambda: self.time)
        self.certificates = Certificates(self.loop, SystemTls(), self.asked.append, 5.0, lambda: self.time)

    def get(self, identity: Identity = ALICE) -> None:
        self.certificates.get(identity, lambda certificate, reason: self.answers.append((certificate, reason)))


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_held_is_answered_at_once(world: World) -> None:
    """And nobody is asked."""
    credentials = world.authority.issue(ALICE)
    world.certificates.put(credentials)
    world.get()
    ((certificate, reason),) = world.answers
    assert certificate is not None
    assert (certificate.credentials, reason, world.asked) == (credentials, "", [])


def test_main_is_asked_once_for_all_who_wait(world: World) -> None:
    """One signing request, many connections."""
    world.get()
    world.get()
    world.get(BOB)
    assert world.asked == [ALICE, BOB]
    world.certificates.put(world.authority.issue(ALICE))
    assert [certificate is not None for certificate, _ in world.answers] == [True, True]


def test_a_failure_reaches_who_waits_and_the_next_one_asks_again(world: World) -> None:
    """A CA that comes back is used."""
    world.get()
    world.certificates.failed(ALICE, "no CA")
    assert world.answers == [(None, "no CA")]
    world.get()
    assert world.asked == [ALICE, ALICE]


def test_waiting_has_a_limit(world: World) -> None:
    """The reason says what was missing."""
    world.get()
    world.time += 6
    world.loop.turn(0)
    assert world.answers == [(None, f"no certificate came for {ALICE}")]


def test_an_expired_certificate_is_not_used(world: World) -> None:
    """A renewal that comes in time saves the connection."""
    world.certificates.put(world.authority.issue(ALICE))
    world.time += 2 * HOUR
    world.get()
    assert world.asked == [ALICE]
    world.certificates.put(world.authority.issue(ALICE, not_after=now() + 4 * HOUR))
    assert world.answers[0][0] is not None


def test_a_failed_renewal_leaves_a_valid_certificate_in_use(world: World) -> None:
    """It is used as long as it is valid, whatever the CA says."""
    world.certificates.put(world.authority.issue(ALICE))
    world.certificates.failed(ALICE, "no CA")
    world.get()
    assert world.answers[0][0] is not None


def test_a_forgotten_identity_is_gone(world: World) -> None:
    """Who waits is told."""
    world.certificates.put(world.authority.issue(ALICE))
    world.certificates.forget(ALICE)
    world.get()
    assert world.answers == []
    world.certificates.forget(ALICE)
    assert world.answers == [(None, f"{ALICE} is no longer a workload of this host")]


def test_tls_contexts_are_made_once(world: World) -> None:
    """Parsing keys for each connection would cost more than the connection."""
    certificate = Certificate(world.authority.issue(ALICE), SystemTls())
    assert certificate.client() is certificate.client()
    assert certificate.server() is certificate.server()
