"""The `process_*` metrics of the whole agent: main's by prometheus_client's ProcessCollector, the workers' added.

A worker's user is another one than main's, who cannot look into its /proc: so workers report themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from hostmesh.telemetry.metrics import CPU, MAX_FDS, OPEN_FDS

Numbers = Mapping[str, float]
"""By metric."""

_UNITS = {CPU: 1_000_000}
"""In what parts a worker reports what is told in whole seconds."""


def whole_agent(own: Iterable[Metric], reported: Sequence[Numbers]) -> list[Metric]:
    """Main's metrics with those of the workers added; what no worker reports stays main's (the start time).

    Args:
        own: what main has collected, all of it.
        reported: by each worker; sums of several, where it is not about descriptors.
    """
    processes: list[Metric] = []
    others: list[Metric] = []
    for metric in own:
        (processes if metric.name.startswith("process_") else others).append(metric)
    main = {sample.name: sample.value for metric in processes for sample in metric.samples}
    for metric in processes:
        metric.samples = [one._replace(value=one.value + _sum(one.name, reported)) for one in metric.samples]
    return [*others, *processes, _fullest([main, *reported])]


def _sum(name: str, reported: Iterable[Numbers]) -> float:
    return sum(each.get(name, 0) for each in reported) / _UNITS.get(name, 1)


def _fullest(processes: Iterable[Numbers]) -> Metric:
    """The limit is each process's own: sums do not show the one that has reached it."""
    shares = (each[OPEN_FDS] / each[MAX_FDS] for each in processes if OPEN_FDS in each and each.get(MAX_FDS))
    return GaugeMetricFamily(
        "hostmesh_process_fds_used_ratio",
        "Share of its file descriptors that the process of the agent that is nearest to its limit has open.",
        max(shares, default=0.0),
    )
