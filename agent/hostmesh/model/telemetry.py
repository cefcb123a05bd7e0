"""What is said about traffic: access logs and metrics of a waypoint, access logs of agents (Istio Telemetry)."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_LOG = "envoy"
"""Istio's name of the provider that writes to the standard output."""


@dataclass(frozen=True, slots=True)
class AccessLog:
    """One access log. A line is `text`, or JSON with `labels`, or (neither) our own; `filter` is a CEL expression."""

    provider: str = DEFAULT_LOG
    text: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    filter: str = ""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """Changes one metric by Istio's name (REQUEST_COUNT), or all for "". A tag without a value is removed."""

    metric: str = ""
    disabled: bool | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Of one service of a waypoint; of `metrics` a later change counts."""

    logs: tuple[AccessLog, ...] = (AccessLog(),)
    metrics: tuple[MetricChange, ...] = ()


UNCHANGED = Telemetry()
"""Where no document says anything."""
