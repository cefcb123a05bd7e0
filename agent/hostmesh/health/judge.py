"""What results of probes come to: one alone decides nothing, but for the first (Kubernetes' probe thresholds)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hostmesh.model.health import Check, Verdict


@dataclass(frozen=True, slots=True)
class Standing:
    """The verdict so far, and how many results in a row (`against`) speak for the other one. `reason` is the last's."""

    verdict: Verdict = Verdict.UNKNOWN
    against: int = 0
    reason: str = ""


def judge(before: Standing, failure: str, check: Check) -> Standing:
    """The standing after one more result.

    Args:
        before: the standing.
        failure: why the probe failed; empty if it succeeded.
        check: the thresholds.
    """
    result = Verdict.UNHEALTHY if failure else Verdict.HEALTHY
    if before.verdict is Verdict.UNKNOWN or result is before.verdict:
        return Standing(result, 0, failure)
    against = before.against + 1
    threshold = check.failure_threshold if failure else check.success_threshold
    if against >= threshold:
        return Standing(result, 0, failure)
    return replace(before, against=against)
