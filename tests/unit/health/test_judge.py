"""When results of probes change a verdict."""

from __future__ import annotations

import pytest

from hostmesh.health.judge import Standing, judge
from hostmesh.model.health import Check, TcpProbe, Verdict

CHECK = Check(TcpProbe(80), success_threshold=2, failure_threshold=3)
UP, DOWN, UNKNOWN = Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("start", "results", "verdicts"),
    [
        (UNKNOWN, "+", [UP]),
        (UNKNOWN, "-", [DOWN]),
        (UP, "--+---", [UP, UP, UP, UP, UP, DOWN]),
        (UP, "---", [UP, UP, DOWN]),
        (DOWN, "+-++", [DOWN, DOWN, DOWN, UP]),
        (UNKNOWN, "-++", [DOWN, DOWN, UP]),
    ],
)
def test_thresholds_count_results_in_a_row(start: Verdict, results: str, verdicts: list[Verdict]) -> None:
    """Two successes bring back, three failures take out, one that disagrees begins anew; the first result decides."""
    standing, seen = Standing(start), []
    for result in results:
        standing = judge(standing, "" if result == "+" else "refused", CHECK)
        seen.append(standing.verdict)
    assert seen == verdicts


def test_the_reason_is_that_of_the_failure_that_decided() -> None:
    """And there is none for the healthy."""
    standing = Standing(UP)
    for number in range(3):
        standing = judge(standing, f"failure {number}", CHECK)
    assert standing.reason == "failure 2"
    for _ in range(2):
        standing = judge(standing, "", CHECK)
    assert standing == Standing(UP)
