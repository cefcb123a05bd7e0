"""Text exposition of metrics (OpenMetrics 1.0; HELP and TYPE carry the family name without `_total`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hostmesh.telemetry.labels import TRAFFIC_LABEL_NAMES
from hostmesh.telemetry.metrics import CLOSED, FAILED, OPENED, RECEIVED, SENT, SOCKETS_OPEN, Series

OPENMETRICS_TYPE = "application/openmetrics-text;charset=utf-8;version=1.0.0"
TEXT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is: its help ends with a full stop, its label names give the order of values."""

    kind: Literal["counter", "gauge"]
    help: str
    label_names: tuple[str, ...] = ()


FAMILIES: Mapping[str, Family] = {
    OPENED: Family("counter", "The total number of TCP connections opened.", TRAFFIC_LABEL_NAMES),
    CLOSED: Family("counter", "The total number of TCP connections closed.", TRAFFIC_LABEL_NAMES),
    RECEIVED: Family(
        "counter", "The size of total bytes received during request in case of a TCP connection.", TRAFFIC_LABEL_NAMES
    ),
    SENT: Family(
        "counter", "The size of total bytes sent during response in case of a TCP connection.", TRAFFIC_LABEL_NAMES
    ),
    FAILED: Family("counter", "The total number of TCP connections that failed (unstable).", TRAFFIC_LABEL_NAMES),
    SOCKETS_OPEN: Family("gauge", "The current number of open TCP sockets (unstable).", ("reporter",)),
}

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(series: Iterable[Series], families: Mapping[str, Family] = FAMILIES) -> str:
    """Text in the order of `families`; families without samples are left out.

    Raises:
        KeyError: a series of a family that is not listed.
    """
    by_family: dict[str, list[Series]] = {name: [] for name in families}
    for one in series:
        by_family[one.metric].append(one)
    lines = [line for name, samples in by_family.items() if samples for line in _family(name, families[name], samples)]
    lines.append("# EOF\n")
    return "\n".join(lines)


def _family(name: str, family: Family, samples: Sequence[Series]) -> Iterable[str]:
    base = name.removesuffix("_total") if family.kind == "counter" else name
    yield f"# HELP {base} {family.help}"
    yield f"# TYPE {base} {family.kind}"
    for sample in samples:
        yield f"{name}{_labels(family.label_names, sample.labels)} {sample.value}"


def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True) if value]
    return "{" + ",".join(pairs) + "}" if pairs else ""
