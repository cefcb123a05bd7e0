"""Envoy's metrics as Istio shows them: `istio_*` under their own names, the rest as Envoy calls it (text format)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostmesh.waypoint.metrics import PREFIX

_OURS = f"envoy_{PREFIX}_"
_SAMPLE = re.compile(r"(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_SPIFFE = re.compile(r"spiffe://[^/]+/ns/([^/]+)/sa/[^/]+")

_KEPT = ("response_flags", "grpc_response_status", "le")
"""Labels that are not `unknown` when they are empty."""


def exposition(text: str) -> str:
    """All lines; a metric that had no traffic is not there."""
    return "".join(f"{line}\n" for line in _lines(text))


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith(f"# TYPE {_OURS}"):
            yield line.replace(_OURS, "", 1)
        elif line.startswith(_OURS) and (sample := _SAMPLE.fullmatch(line)):
            labels = ",".join(
                f'{name}="{_value(name, value)}"' for name, value in _LABEL.findall(sample["labels"] or "")
            )
            yield f"{sample['name'].removeprefix(_OURS)}{{{labels}}} {sample['value']}"
        else:
            yield line


def _value(name: str, value: str) -> str:
    if name == "source_workload_namespace" and (found := _SPIFFE.fullmatch(value)):
        return found[1]
    return value if name in _KEPT else "unknown" if value in ("", "-") else value
