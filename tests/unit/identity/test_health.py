"""Rules of health: when trouble begins, and that it is told once."""

from __future__ import annotations

import logging

import pytest
from tests.support.mesh import workload

from hostmesh.identity.health import Health, HealthLog, health
from hostmesh.identity.schedule import Slot
from hostmesh.rpc.failure import Failure

WEB = workload("web")
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("not_after", "error", "expected"),
    [
        (None, "", Health.PENDING),
        (None, "refused", Health.ABSENT),
        (NOW + 50, "", Health.GOOD),
        (NOW + 1, "", Health.GOOD),
        (NOW + 50, "refused", Health.RENEWAL_FAILS),
        (NOW + 49, "refused", Health.EXPIRES_SOON),
        (NOW, "refused", Health.ABSENT),
        (NOW, "", Health.PENDING),
    ],
)
def test_health(not_after: float | None, error: str, expected: Health) -> None:
    """A certificate that began 100 s ago and cannot be renewed becomes urgent when a third of its life is left."""
    assert health(Slot(WEB, NOW, error=error, not_after=not_after), NOW - 100, NOW) is expected
    assert expected.is_trouble == bool(error)


def test_each_change_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred repetitions are none; another kind of trouble and the end of trouble are changes."""
    told = HealthLog(logging.getLogger("test"))
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            told.note(WEB, Health.RENEWAL_FAILS, "unreachable since 12:00", Failure.UNREACHABLE)
        told.note(WEB, Health.EXPIRES_SOON, "soon")
        for second in range(100):
            told.note(WEB, Health.EXPIRES_SOON, f"unreachable, {second} s left", Failure.UNREACHABLE)
        told.note(WEB, Health.ABSENT, "expired")
        told.note(WEB, Health.ABSENT, "no", Failure.REFUSED)
        told.forget(WEB)
        told.note(WEB, Health.RENEWAL_FAILS, "again", Failure.UNREACHABLE)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "unreachable since 12:00"),
        ("WARNING", "soon"),
        ("ERROR", "expired"),
        ("ERROR", "no"),
        ("WARNING", "again"),
    ]
