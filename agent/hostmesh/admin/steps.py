"""Steps of an explanation: one decision each, and what it means for the connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostmesh.telemetry.reasons import Reason

Weight = Literal["fine", "odd", "stops"]


@dataclass(frozen=True, slots=True)
class Step:
    """One decision: what it is about, what was found, and what that means for the connection."""

    about: str
    text: str
    weight: Weight = "fine"
    reason: Reason | None = None
