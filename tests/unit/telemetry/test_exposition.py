"""OpenMetrics text as Prometheus reads it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from hostmesh.telemetry.exposition import Family, render
from hostmesh.telemetry.labels import traffic_labels
from hostmesh.telemetry.metrics import SOCKETS_OPEN, Metrics, Series

LABELS = traffic_labels("source", (None, None), (None, None), None, "mutual_tls")


def test_a_strict_parser_reads_what_is_rendered() -> None:
    """prometheus-client's own OpenMetrics parser is the judge."""
    metrics = Metrics()
    traffic = metrics.traffic(LABELS)
    traffic.opened.value += 3
    traffic.ended("DENY", ("ns/deny",))
    families = {
        family.name: family
        for family in text_string_to_metric_families(render([*metrics.snapshot(), *metrics.gauges()]))
    }
    (opened,) = families["istio_tcp_connections_opened"].samples
    assert (opened.name, opened.value, opened.labels["response_flags"]) == (
        "istio_tcp_connections_opened_total",
        3,
        "-",
    )
    (closed,) = families["istio_tcp_connections_closed"].samples
    assert closed.labels["authorization_policy"] == "ns/deny"
    assert families[SOCKETS_OPEN].type == "gauge"


def test_families_without_samples_are_left_out() -> None:
    """Only what was counted is shown; the text ends with its mark."""
    assert render([]) == "# EOF\n"


def test_help_and_type_lack_the_suffix_total() -> None:
    """OpenMetrics names the family, not the sample."""
    text = render([Series("x_total", ("v",), 1)], families={"x_total": Family("counter", "Things.", ("kind",))})
    assert text == '# HELP x Things.\n# TYPE x counter\nx_total{kind="v"} 1.0\n# EOF\n'


@pytest.mark.parametrize(("value", "escaped"), [('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb")])
def test_label_values_are_escaped(value: str, escaped: str) -> None:
    """A label value from the network cannot end its line or its quotes."""
    text = render([Series("x", (value,), 1)], families={"x": Family("gauge", "X.", ("kind",))})
    assert f'x{{kind="{escaped}"}} 1.0' in text.splitlines()


def test_an_unlisted_family_is_a_mistake() -> None:
    """Nothing is shown without help and type."""
    with pytest.raises(KeyError):
        render([Series("surprise", (), 1)])


def test_what_the_process_registered_follows_the_workers_series() -> None:
    """One text for one agent, in the format that the scraper takes."""
    own = CollectorRegistry()
    Gauge("own", "Its own.", registry=own).set(2)
    series = [Series(SOCKETS_OPEN, ("source",), 1)]
    assert render(series, own.collect()).splitlines()[-2:] == ["own 2.0", "# EOF"]
    assert render(series, own.collect(), openmetrics=False).splitlines()[-1] == "own 2.0"
