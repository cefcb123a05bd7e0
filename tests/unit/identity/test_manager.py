"""Rules of the secret manager: one fetch per identity, callbacks, renewal, failure, expiry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.mesh import background, until, workload

from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.health import Health
from hostmesh.identity.manager import SecretManager
from hostmesh.model.identity import Credentials, Identity

WEB, DB = workload("web"), workload("db")
NOW = 1_800_000_000.0


def credentials(identity: Identity, not_before: float, not_after: float, serial: int = 0) -> Credentials:
    return Credentials(identity, b"key", b"chain", b"roots", not_before, not_after, serial)


class Ca:
    """Issues after a gate opens, or fails; and a manager under a clock that is set by hand."""

    def __init__(self, jitter: Callable[[], float] = lambda: 0.5) -> None:
        self.now = NOW
        self.ttl = 100.0
        self.ahead = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.down = ""
        self.asked: list[Identity] = []
        self.running = self.most = 0
        self.given: list[Credentials] = []
        self.failures: list[tuple[Identity, str]] = []
        self.manager = SecretManager(
            self.fetch,
            on_credentials=self.given.append,
            on_failure=lambda identity, reason: self.failures.append((identity, reason)),
            now=lambda: self.now,
            jitter=jitter,
        )

    async def fetch(self, identity: Identity) -> Credentials:
        self.asked.append(identity)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            if self.down:
                raise FetchFailed(self.down)
            issued = self.now + self.ahead
            return credentials(identity, issued, issued + self.ttl, len(self.asked))
        finally:
            self.running -= 1

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.manager._changed.set()

    async def settle(self) -> None:
        """Let everything that can happen now happen."""
        for _ in range(10):
            await asyncio.sleep(0)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with background(self.manager.run()):
            yield


def scenario(body: Callable[[Ca], Coroutine[Any, Any, None]], jitter: Callable[[], float] = lambda: 0.5) -> None:
    async def main() -> None:
        ca = Ca(jitter)
        async with ca.working():
            await body(ca)

    asyncio.run(main())


def states(ca: Ca) -> list[str]:
    return [status.state for status in ca.manager.statistics()]


def test_a_wanted_identity_gets_its_certificate_once() -> None:
    """However many ask, there is one request; who asks later is told at once."""

    async def body(ca: Ca) -> None:
        ca.gate.clear()
        for _ in range(3):
            ca.manager.want(WEB, waiting=True)
        await ca.settle()
        assert (ca.asked, states(ca)) == ([WEB], ["Initializing"])
        ca.gate.set()
        await ca.settle()
        assert ([c.identity for c in ca.given], states(ca)) == ([WEB], ["Available"])
        ca.manager.want(WEB, waiting=True)
        assert len(ca.given) == 2
        assert ca.given[0] is ca.given[1] is ca.manager.credentials(WEB)
        assert ca.manager.available() == [ca.given[0]]
        assert ca.asked == [WEB]

    scenario(body)


def test_certificates_are_renewed_in_time_for_ever() -> None:
    """Before half-life, each time; the old one is there until the new one is."""

    async def body(ca: Ca) -> None:
        ca.manager.want(WEB)
        await ca.settle()
        for round_ in range(2, 6):
            ca.pass_time(44)
            await ca.settle()
            assert len(ca.asked) == round_ - 1
            ca.pass_time(1.1)
            await ca.settle()
            assert len(ca.asked) == round_
            assert ca.given[-1].serial == round_

    scenario(body)


def test_certificates_of_one_moment_are_renewed_at_several() -> None:
    """Each by a chance of its own, so that the control plane is not asked for all of them at once."""

    async def body(ca: Ca) -> None:
        for identity in (WEB, DB):
            ca.manager.want(identity)
        await ca.settle()
        assert {one.renew_at for one in ca.manager.statistics()} == {NOW + 50, NOW + 40}

    scenario(body, iter((0.0, 1.0)).__next__)


def test_failure_is_told_and_retried(caplog: pytest.LogCaptureFixture) -> None:
    """Those who wait learn the reason, later ones at once; the retry succeeds without being asked."""

    async def body(ca: Ca) -> None:
        ca.down = "the control plane is unreachable"
        ca.manager.want(WEB, waiting=True)
        await ca.settle()
        assert ca.failures == [(WEB, ca.down)]
        assert states(ca) == [f"Unavailable: {ca.down}"]
        ca.manager.want(WEB, waiting=True)
        assert len(ca.failures) == 2
        assert ca.asked == [WEB]
        ca.down = ""
        ca.pass_time(1.01)
        await ca.settle()
        assert states(ca) == ["Available"]

    with caplog.at_level(logging.WARNING):
        scenario(body)
    (record,) = caplog.records
    assert "cannot be had: the control plane is unreachable (there is no valid one; next try in 1 s)" in record.message


def test_a_success_starts_the_back_off_anew() -> None:
    """One, two seconds; then, after a certificate, one again."""

    async def body(ca: Ca) -> None:
        def next_try() -> float:
            return ca.manager.statistics()[0].renew_at - ca.now

        ca.down = "down"
        ca.manager.want(WEB)
        await ca.settle()
        assert next_try() == 1
        ca.pass_time(1)
        await ca.settle()
        assert next_try() == 2
        ca.down = ""
        ca.pass_time(2)
        await ca.settle()
        assert states(ca) == ["Available"]
        ca.down = "down"
        ca.manager.renew(WEB)
        await ca.settle()
        assert next_try() == 1

    scenario(body)


def test_a_valid_certificate_survives_failures_until_it_expires() -> None:
    """Nobody is told of failures before that; then everybody is, and the credentials are gone."""

    async def body(ca: Ca) -> None:
        ca.manager.want(WEB)
        await ca.settle()
        ca.down = "down"
        for _ in range(60):
            ca.pass_time(1)
            await ca.settle()
        assert (ca.failures, states(ca)) == ([], ["Available"])
        assert ca.manager.credentials(WEB) is not None
        ca.pass_time(41)
        await ca.settle()
        assert ca.failures[0] == (WEB, "down")
        assert states(ca) == ["Unavailable: down"]
        assert ca.manager.available() == []
        assert ca.manager.statistics()[0].credentials is None

    scenario(body)


def test_eight_at_once_and_the_waiting_first() -> None:
    """A connection that waits overtakes the prefetches that have not started."""

    async def body(ca: Ca) -> None:
        ca.gate.clear()
        for number in range(20):
            ca.manager.want(workload(f"w{number}"))
        await ca.settle()
        assert (len(ca.asked), ca.running) == (8, 8)
        ca.manager.want(WEB, waiting=True)
        ca.manager.want(workload("w19"), waiting=True)
        ca.gate.set()
        await until(lambda: len(ca.given) == 21)
        assert ca.most == 8
        assert set(ca.asked[8:10]) == {WEB, workload("w19")}

    scenario(body)


def test_forgotten_identities_are_not_given() -> None:
    """Not even if the answer is on its way; and a later wish starts anew."""

    async def body(ca: Ca) -> None:
        ca.gate.clear()
        ca.manager.want(WEB)
        await ca.settle()
        ca.manager.forget(WEB)
        ca.gate.set()
        await ca.settle()
        assert (ca.given, ca.manager.statistics()) == ([], [])
        ca.manager.want(WEB)
        await ca.settle()
        assert len(ca.given) == 1

    scenario(body)


def test_who_is_wanted_again_gets_what_is_on_its_way() -> None:
    """There are never two requests for one identity, nor more than eight that run, whoever was forgotten meanwhile."""

    async def body(ca: Ca) -> None:
        ca.gate.clear()
        for number in range(8):
            ca.manager.want(workload(f"w{number}"))
        await ca.settle()
        ca.manager.keep_only([])
        ca.manager.want(DB)
        ca.manager.want(workload("w0"), waiting=True)
        await ca.settle()
        assert len(ca.asked) == ca.running == 8
        ca.gate.set()
        await until(lambda: len(ca.given) == 2)
        assert {given.identity for given in ca.given} == {DB, workload("w0")}
        assert (len(ca.asked), ca.most) == (9, 8)

    scenario(body)


def test_keep_only() -> None:
    """The wanted set as a whole: new ones are fetched, others forgotten."""

    async def body(ca: Ca) -> None:
        assert ca.manager.keep_only([WEB]) == []
        await ca.settle()
        assert ca.manager.keep_only([WEB, DB]) == []
        assert [one.identity for one in ca.manager.statistics()] == [DB, WEB]
        assert ca.manager.keep_only([DB]) == [WEB]
        await ca.settle()
        assert [c.identity for c in ca.given] == [WEB, DB]
        assert ca.manager.credentials(WEB) is None

    scenario(body)


def test_an_expired_answer_is_a_failure_that_names_both_clocks() -> None:
    """A clock that runs ahead makes fresh certificates look expired."""

    async def body(ca: Ca) -> None:
        ca.ttl = -5
        ca.manager.want(WEB)
        await ca.settle()
        ((_, reason),) = ca.failures
        assert reason.startswith(
            f"the new certificate of {WEB} has expired: by the control plane's clock it is valid from"
        )

    scenario(body)


def test_a_certificate_of_tomorrow_replaces_no_valid_one() -> None:
    """Of an issuer whose clock runs ahead; only who has none takes it, for its own clock may be the wrong one."""

    async def body(ca: Ca) -> None:
        ca.manager.want(WEB)
        await ca.settle()
        (first,) = ca.given
        ca.ahead = 300
        ca.manager.renew(WEB)
        await ca.settle()
        assert ca.manager.credentials(WEB) is first
        assert "is not valid yet" in ca.manager.statistics()[0].last_error
        ca.manager.want(DB)
        await ca.settle()
        assert [given.identity for given in ca.given] == [WEB, DB]

    scenario(body)


def test_when_the_control_plane_is_back_failures_are_retried_soon() -> None:
    """Instead of up to 150 s later."""

    async def body(ca: Ca) -> None:
        ca.down = "down"
        ca.manager.want(WEB)
        for _ in range(10):
            await ca.settle()
            ca.pass_time(200)
        await ca.settle()
        ca.down = ""
        ca.manager.retry_failed()
        ca.pass_time(1.01)
        await ca.settle()
        assert states(ca) == ["Available"]

    scenario(body)


def test_adopted_certificates_are_renewed_when_they_are_due() -> None:
    """One from the disk may be past its half-life: then at once."""

    async def body(ca: Ca) -> None:
        ca.manager.adopt(credentials(WEB, NOW - 10, NOW + 90))
        ca.manager.adopt(credentials(DB, NOW - 60, NOW + 40))
        await ca.settle()
        assert ca.asked == [DB]
        assert ca.manager.credentials(WEB) is not None

    scenario(body)


def test_a_clock_that_jumps_is_noticed_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sleep is longer than five seconds, whatever the plan was: the wall clock may be set meanwhile."""
    monkeypatch.setattr("hostmesh.identity.manager._LONGEST_SLEEP", 0.01)

    async def body(ca: Ca) -> None:
        ca.manager.adopt(credentials(WEB, NOW, NOW + 1_000_000))
        await ca.settle()
        assert ca.asked == []
        ca.now += 600_000
        await until(lambda: ca.given)

    scenario(body)


def test_a_failing_renewal_is_said_at_its_start_when_it_is_urgent_and_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Three lines for an outage of any length: the control plane may be asked a hundred times meanwhile."""

    async def body(ca: Ca) -> None:
        ca.manager.want(WEB)
        await ca.settle()
        ca.down = "down"
        seen = []
        for _ in range(110):
            ca.pass_time(1)
            await ca.settle()
            seen.append(ca.manager.statistics()[0].health)
        assert list(dict.fromkeys(seen)) == [
            Health.GOOD,
            Health.RENEWAL_FAILS,
            Health.EXPIRES_SOON,
            Health.ABSENT,
        ]

    with caplog.at_level(logging.WARNING):
        scenario(body)
    words = ["the present one stays in use until", "s and cannot be renewed: down", "has expired: down"]
    assert len(caplog.records) == len(words)
    for record, expected in zip(caplog.records, words, strict=True):
        assert expected in record.message


def test_a_doubted_certificate_is_renewed_at_once() -> None:
    """Though half of its life is far away."""

    async def body(ca: Ca) -> None:
        ca.manager.want(WEB)
        await ca.settle()
        ca.manager.renew(WEB)
        ca.manager.renew(DB)  # nobody's
        await ca.settle()
        assert ca.asked == [WEB, WEB]

    scenario(body)


def test_a_discarded_certificate_is_not_handed_out_and_replaced() -> None:
    """Revoked ones: gone from all lists at once, who waits is told why, the next one is asked for without delay."""

    async def body(ca: Ca) -> None:
        ca.manager.want(WEB)
        await until(lambda: len(ca.given) == 1)
        ca.gate.clear()
        ca.manager.discard(WEB, "revoked")
        assert ca.manager.available() == []
        ca.manager.want(WEB, waiting=True)
        assert ca.failures == [(WEB, "revoked")]
        ca.gate.set()
        await until(lambda: len(ca.given) == 2)
        assert [one.state for one in ca.manager.statistics()] == ["Available"]
        ca.manager.discard(DB, "nobody wants it")
        assert len(ca.manager.statistics()) == 1

    scenario(body)


def test_a_replacement_can_be_spread_over_time() -> None:
    """Half of the given time with this jitter; never later than it was due anyway."""

    async def body(ca: Ca) -> None:
        ca.manager.want(WEB)
        await until(lambda: len(ca.given) == 1)
        ca.manager.renew_within(WEB, 20)
        assert ca.manager.statistics()[0].renew_at == NOW + 10
        ca.manager.renew_within(WEB, 1000)
        assert ca.manager.statistics()[0].renew_at == NOW + 10
        ca.pass_time(10)
        await until(lambda: len(ca.given) == 2)

    scenario(body)
