"""`python -m tools.bench_chart`: bench/results.json as docs/images/bench.svg, Envoy and hostmesh beside each other.

Each row has its own scale: the better of both is a full bar, whatever the unit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results.json"
CHART = ROOT / "docs" / "images" / "bench.svg"
TITLES = {
    "cpu_seconds_per_gb": "CPU for a gigabyte",
    "cpu_us_per_connection": "CPU for a new connection",
    "rss_1000_idle_mb": "memory, 1,000 idle connections",
    "bulk_1_stream_up": "upload, 1 stream",
    "bulk_1_stream_down": "download, 1 stream",
    "bulk_16_streams_up": "upload, 16 streams",
    "bulk_16_streams_down": "download, 16 streams",
    "connections_per_second": "new connections, one at a time",
    "connections_per_second_x8": "new connections, 8 at a time",
    "ping_1k_x16_rate": "1 KiB there and back, 16 at a time",
    "ping_1k_p50": "1 KiB there and back, median",
    "ping_1k_p99": "1 KiB there and back, 99th percentile",
}
ROW, TOP, LEFT, BAR = 40, 64, 290, 300
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#24292f}.s{font-size:12px;fill:#57606a}.e{fill:#b0b8c1}.h{fill:#1f6feb}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.e{fill:#59636e}.h{fill:#4493f8}}"
)


def chart(results: Mapping[str, Any]) -> str:
    """The whole picture."""
    machine = results["machine"]
    rows = {row["name"]: row for row in results["rows"]}
    shown = [(title, rows[name]) for name, title in TITLES.items() if name in rows]
    height = TOP + ROW * len(shown) + 34
    where = f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Envoy {machine['envoy']}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" viewBox="0 0 760 {height}" role="img">',
        f"<title>hostmesh and Envoy: the same work, side by side</title><style>{STYLE}</style>",
        f'<text x="{LEFT}" y="24"><tspan font-weight="600">hostmesh and Envoy, the same work</tspan></text>',
        f'<text class="s" x="{LEFT}" y="44">longer is better; {escape(where)}</text>',
    ]
    for number, (title, row) in enumerate(shown):
        parts += _row(title, row, TOP + ROW * number)
    parts.append(
        f'<text class="s" x="{LEFT}" y="{height - 12}">median of {machine["rounds"]} rounds; make bench</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(title: str, row: Mapping[str, Any], y: int) -> Iterator[str]:
    yield f'<text x="{LEFT - 12}" y="{y + 20}" text-anchor="end">{escape(title)}</text>'
    for offset, name, colour in ((3, "hostmesh", "h"), (18, "envoy", "e")):
        width = max(2, round(BAR * goodness(row)[name]))
        label = f"{name.replace('envoy', 'Envoy')} {_figure(row[name])} {row['unit'].replace('us', 'µs')}"
        yield f'<rect class="{colour}" x="{LEFT}" y="{y + offset}" width="{width}" height="13" rx="2"/>'
        yield f'<text class="s" x="{LEFT + width + 8}" y="{y + offset + 11}">{escape(label)}</text>'


def goodness(row: Mapping[str, Any]) -> dict[str, float]:
    """1 for the better one, and for the other how many times less good it is."""
    values = {name: float(row[name]) for name in ("hostmesh", "envoy")}
    if row["better"] == "lower":
        return {name: min(values.values()) / value for name, value in values.items()}
    return {name: value / max(values.values()) for name, value in values.items()}


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Write the picture."""
    CHART.parent.mkdir(exist_ok=True)
    CHART.write_text(chart(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
