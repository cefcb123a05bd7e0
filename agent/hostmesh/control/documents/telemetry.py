"""Istio Telemetry (telemetry.istio.io): access logs and metrics of the mesh, a namespace, or what it is attached to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents import cel
from hostmesh.control.documents.authorization_policy import TargetRef
from hostmesh.control.documents.base import Finding, Resource, Selector, Strict, Text, check_selector, warning
from hostmesh.control.documents.policy_rules import check_target

Mode = Literal["CLIENT", "SERVER", "CLIENT_AND_SERVER"]

Counted = Literal[
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
]
METRICS: tuple[str, ...] = get_args(Counted)
Metric = Literal["ALL_METRICS", Counted, "GRPC_REQUEST_MESSAGES", "GRPC_RESPONSE_MESSAGES"]

PROMETHEUS = "prometheus"
_MAX_EXPRESSION = 4096


class ProviderRef(Strict):
    """An access log or metrics backend by name."""

    name: Text


class ModeMatch(Strict):
    """Whether as caller or as called; a waypoint is called."""

    mode: Mode = "CLIENT_AND_SERVER"


class LogFilter(Strict):
    """What is logged; the rest is not."""

    expression: Annotated[str, Field(min_length=1, max_length=_MAX_EXPRESSION)]


class AccessLogging(Strict):
    """One change of the access logs that hold for less special documents."""

    match: ModeMatch = ModeMatch()
    providers: list[ProviderRef] = Field(default=[])
    disabled: bool = False
    filter: LogFilter | None = None


class MetricMatch(Strict):
    """Which metric; all of them if none is named."""

    metric: Metric | None = None
    custom_metric: str | None = None
    mode: Mode = "CLIENT_AND_SERVER"


class TagOverride(Strict):
    """Sets a tag to a CEL expression's value, or removes it."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: Annotated[str, Field(max_length=_MAX_EXPRESSION)] = ""


class MetricOverride(Strict):
    """One change of a metric."""

    match: MetricMatch = MetricMatch()
    disabled: bool | None = None
    tag_overrides: dict[Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")], TagOverride] = Field(
        default={}
    )


class Metrics(Strict):
    """Metrics of one backend."""

    providers: list[ProviderRef] = Field(default=[])
    overrides: list[MetricOverride] = Field(default=[])
    reporting_interval: object = None


class TelemetrySpec(Strict):
    """Without `selector` and `targetRefs` it is for its namespace; in the root namespace, for the mesh."""

    selector: Selector | None = None
    target_ref: TargetRef | None = None
    target_refs: Annotated[list[TargetRef], Field(max_length=16)] | None = None
    tracing: object = None
    metrics: list[Metrics] = Field(default=[])
    access_logging: list[AccessLogging] = Field(default=[])

    @property
    def targets(self) -> list[TargetRef]:
        """What it is attached to."""
        return [*([self.target_ref] if self.target_ref else []), *(self.target_refs or [])]


class Telemetry(Resource):
    """What is said about traffic."""

    spec: TelemetrySpec = TelemetrySpec()

    @property
    def selector_labels(self) -> Mapping[str, str]:
        """Empty when it speaks for its whole namespace."""
        return self.spec.selector.match_labels if self.spec.selector else {}


def check_telemetry(telemetry: Telemetry) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = telemetry.spec
    yield from _check_attachment(telemetry)
    if spec.tracing is not None:
        why = "traces are not made here: neither agents nor waypoints send spans; remove the field"
        yield Finding(("spec", "tracing"), why)
    for number, logging in enumerate(spec.access_logging):
        yield from _check_logging(logging, ("spec", "accessLogging", number))
        if logging.filter is not None and not spec.targets:
            why = "agents evaluate no expressions: they log every connection, or none (disabled)"
            path: Path = ("spec", "accessLogging", number, "filter", "expression")
            # of a whole namespace or mesh, which waypoints belong to
            yield Finding(path, why) if telemetry.selector_labels else warning(path, f"for waypoints only: {why}")
    for number, metrics in enumerate(spec.metrics):
        yield from _check_metrics(telemetry, metrics, ("spec", "metrics", number))


def _check_attachment(telemetry: Telemetry) -> Iterator[Finding]:
    spec = telemetry.spec
    if spec.selector is not None:
        yield from check_selector(telemetry.selector_labels, ("spec", "selector"))
        if spec.targets:
            yield Finding(("spec", "selector"), "only one of targetRefs or selector can be set")
    if spec.target_ref and spec.target_refs:
        yield Finding(("spec", "targetRef"), "only one of targetRef or targetRefs can be set")
    if spec.target_ref:
        yield from check_target(spec.target_ref, ("spec", "targetRef"))
    for number, target in enumerate(spec.target_refs or ()):
        yield from check_target(target, ("spec", "targetRefs", number))


def _check_logging(logging: AccessLogging, path: Path) -> Iterator[Finding]:
    if logging.filter is None:
        return
    where = (*path, "filter", "expression")
    if logging.disabled:
        yield Finding(where, "what is disabled is not filtered; remove one of the two")
    yield from _check_expression(logging.filter.expression, where)


def _check_metrics(telemetry: Telemetry, metrics: Metrics, path: Path) -> Iterator[Finding]:
    for number, provider in enumerate(metrics.providers):
        if provider.name != PROMETHEUS:
            why = f"metrics are scraped: {PROMETHEUS!r} is the only provider, not {provider.name!r}"
            yield Finding((*path, "providers", number, "name"), why)
    if metrics.reporting_interval is not None:
        why = "metrics are scraped: who scrapes decides how often; remove the field"
        yield Finding((*path, "reportingInterval"), why)
    if telemetry.selector_labels and metrics.overrides:
        why = "metrics of agents are ztunnel's and fixed; attach the document to a waypoint or service with targetRefs"
        yield Finding((*path, "overrides"), why)
    for number, override in enumerate(metrics.overrides):
        yield from _check_override(override, (*path, "overrides", number))


def _check_override(override: MetricOverride, path: Path) -> Iterator[Finding]:
    match = override.match
    if match.custom_metric is not None:
        yield Finding((*path, "match", "customMetric"), "there are no custom metrics here; name one of Istio's")
    if match.metric in ("GRPC_REQUEST_MESSAGES", "GRPC_RESPONSE_MESSAGES"):
        yield Finding((*path, "match", "metric"), f"messages of gRPC streams are not counted here: no {match.metric}")
    for name, tag in override.tag_overrides.items():
        where = (*path, "tagOverrides", name)
        if tag.operation == "REMOVE" and tag.value:
            yield Finding((*where, "value"), "what is removed has no value; remove the field")
        elif tag.operation == "UPSERT" and not tag.value:
            yield Finding((*where, "value"), "UPSERT needs a value: a CEL expression, like request.host")
        elif tag.value:
            yield from _check_expression(tag.value, (*where, "value"))


def _check_expression(text: str, path: Path) -> Iterator[Finding]:
    try:
        cel.check(text)
    except cel.NotCel as error:
        yield Finding(path, str(error))
