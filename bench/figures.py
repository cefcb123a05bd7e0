"""From measurements to the table: medians, ratios, shares. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

Better = Literal["higher", "lower"]

SETUPS = ("direct", "envoy", "hostmesh")
"""Names of the set-ups in the order of the table."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; None where a set-up has no such number (no proxy, no cost of one)."""

    name: str
    unit: str
    better: Better
    direct: float | None
    envoy: float
    hostmesh: float

    @property
    def ratio(self) -> float:
        """How many times better than Envoy hostmesh is; above 1 it is ahead."""
        ahead, behind = (self.hostmesh, self.envoy) if self.better == "higher" else (self.envoy, self.hostmesh)
        return ahead / behind if behind else float("inf")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one work over one set-up.

    `seconds` is wall time; `cpu` what all processes of the proxies used, in seconds; `p50` and `p99` are microseconds.
    """

    seconds: float
    cpu: float
    count: int = 0
    bytes: int = 0
    p50: float = 0.0
    p99: float = 0.0

    @property
    def gigabytes_per_second(self) -> float:
        """Payload, 10^9 bytes."""
        return self.bytes / 1e9 / self.seconds

    @property
    def cpu_seconds_per_gb(self) -> float:
        """Of all proxies together."""
        return self.cpu / (self.bytes / 1e9)

    @property
    def per_second(self) -> float:
        """Round trips or connections."""
        return self.count / self.seconds

    @property
    def cpu_us_each(self) -> float:
        """Of all proxies together, for one round trip or connection."""
        return self.cpu * 1e6 / self.count


Samples = Mapping[str, Mapping[str, Sequence[Sample]]]
"""By work, then by set-up: one sample for each round."""

BULK = ("bulk_1_stream_up", "bulk_1_stream_down", "bulk_16_streams_up", "bulk_16_streams_down")
CONNECTIONS = ("connections_per_second", "connections_per_second_x8")


def rows(samples: Samples, idle_mb: Mapping[str, float]) -> list[Row]:
    """The twelve rows of the results, medians over the rounds.

    Args:
        samples: of the works `BULK`, `ping_1k`, `ping_1k_x16` and `CONNECTIONS`.
        idle_mb: resident MB of all proxies of a set-up with the idle connections open.
    """
    return [
        *(_row(work, "GB/s", "higher", _each(samples[work], "gigabytes_per_second")) for work in BULK),
        _row("cpu_seconds_per_gb", "CPU s", "lower", _mean_of_works(samples, BULK, "cpu_seconds_per_gb"), proxied=True),
        _row("ping_1k_p50", "us", "lower", _each(samples["ping_1k"], "p50")),
        _row("ping_1k_p99", "us", "lower", _each(samples["ping_1k"], "p99")),
        _row("ping_1k_x16_rate", "1/s", "higher", _each(samples["ping_1k_x16"], "per_second")),
        *(_row(work, "1/s", "higher", _each(samples[work], "per_second")) for work in CONNECTIONS),
        _row(
            "cpu_us_per_connection",
            "CPU us",
            "lower",
            _mean_of_works(samples, CONNECTIONS, "cpu_us_each"),
            proxied=True,
        ),
        _row("rss_1000_idle_mb", "MB", "lower", idle_mb, proxied=True),
    ]


def cpu_rows(samples: Samples) -> list[Row]:
    """What the proxies' CPU time was work by work: throughput moves with the neighbours, this hardly does."""
    bulk = [
        _row(f"{work}_cpu", "CPU s/GB", "lower", _each(samples[work], "cpu_seconds_per_gb"), proxied=True)
        for work in BULK
    ]
    works = ("ping_1k", "ping_1k_x16", *CONNECTIONS)
    each = [_row(f"{work}_cpu", "CPU us", "lower", _each(samples[work], "cpu_us_each"), proxied=True) for work in works]
    return bulk + each


def spread(samples: Samples) -> float:
    """How noisy the machine was: the median over works and set-ups of (max - min) / median of what was measured."""
    return median(
        (max(values) - min(values)) / median(values)
        for by_setup in samples.values()
        for values in ([_speed(sample) for sample in taken] for taken in by_setup.values())
    )


def results(machine: Mapping[str, Any], table: Iterable[Row]) -> dict[str, Any]:
    """What bench/results.json holds."""
    return {
        "machine": dict(machine),
        "rows": [
            {
                "name": row.name,
                "unit": row.unit,
                "better": row.better,
                "direct": _rounded(row.direct),
                "envoy": _rounded(row.envoy),
                "hostmesh": _rounded(row.hostmesh),
                "ratio": _rounded(row.ratio),
            }
            for row in table
        ],
    }


def table(lines: Iterable[Row]) -> str:
    """Rows for the eye."""
    head = ("", "unit", *SETUPS, "ratio")
    body = [
        (row.name, row.unit, _shown(row.direct), _shown(row.envoy), _shown(row.hostmesh), f"{row.ratio:.2f}")
        for row in lines
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in (head, *body)
    )


def _row(name: str, unit: str, better: Better, values: Mapping[str, float], *, proxied: bool = False) -> Row:
    return Row(name, unit, better, None if proxied else values["direct"], values["envoy"], values["hostmesh"])


def _each(by_setup: Mapping[str, Sequence[Sample]], attribute: str) -> dict[str, float]:
    return {setup: median(getattr(sample, attribute) for sample in taken) for setup, taken in by_setup.items()}


def _mean_of_works(samples: Samples, works: Sequence[str], attribute: str) -> dict[str, float]:
    """Every work weighs the same, whatever its speed."""
    found = [_each(samples[work], attribute) for work in works]
    return {setup: sum(one[setup] for one in found) / len(found) for setup in found[0]}


def _speed(sample: Sample) -> float:
    return sample.gigabytes_per_second if sample.bytes else sample.per_second


def _rounded(value: float | None) -> float | None:
    """Four significant digits: no measurement here has more."""
    return None if value is None else float(f"{value:.4g}")


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
