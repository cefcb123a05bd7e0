"""What a Telemetry document must obey."""

from __future__ import annotations

import pytest
from tests.support.documents import document, refusals


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("{}", ""),
        ("accessLogging: [{providers: [{name: envoy}], filter: {expression: response.code >= 400}}]", ""),
        ("accessLogging: [{disabled: true}]", ""),
        ("metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT}}]}]", ""),
        ("tracing: [{randomSamplingPercentage: 1}]", "5: spec.tracing: traces are not made here"),
        (
            "accessLogging: [{filter: {expression: 'response.code >'}}]",
            "5: spec.accessLogging[0].filter.expression: not CEL: a value is expected at character 16",
        ),
        (
            "accessLogging: [{disabled: true, filter: {expression: 'true'}}]",
            "5: spec.accessLogging[0].filter.expression: what is disabled is not filtered",
        ),
        (
            "metrics: [{providers: [{name: datadog}]}]",
            "5: spec.metrics[0].providers[0].name: metrics are scraped: 'prometheus' is the only provider",
        ),
        ("metrics: [{reportingInterval: 5s}]", "5: spec.metrics[0].reportingInterval: metrics are scraped"),
        (
            "metrics: [{overrides: [{match: {customMetric: a}}]}]",
            "5: spec.metrics[0].overrides[0].match.customMetric: there are no custom metrics",
        ),
        (
            "metrics: [{overrides: [{match: {metric: GRPC_REQUEST_MESSAGES}}]}]",
            "5: spec.metrics[0].overrides[0].match.metric: messages of gRPC streams are not counted",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT}}}]}]",
            "5: spec.metrics[0].overrides[0].tagOverrides.a.value: UPSERT needs a value",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]",
            "5: spec.metrics[0].overrides[0].tagOverrides.a.value: what is removed has no value",
        ),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {value: reqest.host}}}]}]",
            "5: spec.metrics[0].overrides[0].tagOverrides.a.value: there is no attribute 'reqest'; did you mean",
        ),
        ("selector: {matchLabels: {a: b}}\nmetrics: [{overrides: [{}]}]", "6: spec.metrics[0].overrides: metrics of"),
        (
            "selector: {matchLabels: {a: b}}\ntargetRefs: [{kind: Service, name: web}]",
            "5: spec.selector: only one of targetRefs or selector",
        ),
        (
            "selector: {matchLabels: {a: b}}\naccessLogging: [{filter: {expression: 'true'}}]",
            "6: spec.accessLogging[0].filter.expression: agents evaluate no expressions",
        ),
        ("targetRefs: [{kind: Pod, name: web}]", "5: spec.targetRefs[0].kind: cannot be attached to 'Pod'"),
    ],
)
def test_refused(spec: str, complaint: str) -> None:
    """What would silently do nothing is refused, by file, line and field."""
    said = refusals(document("Telemetry", spec))
    assert (said[0] if said else "").startswith(complaint)
    assert bool(said) is bool(complaint)
