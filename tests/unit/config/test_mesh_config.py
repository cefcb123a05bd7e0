"""Istio's mesh config file and PROXY_CONFIG."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.config.mesh_config import layer
from hostmesh.config.strict_yaml import InvalidYaml

FILE = """
trustDomain: example.org
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  concurrency: 2
  holdApplicationUntilProxyStarts: true
  proxyMetadata:
    ISTIO_META_REGION: eu
    BOOTSTRAP_XDS_AGENT: "true"
"""


def test_the_fields_of_a_node_proxy(tmp_path: Path) -> None:
    """All others are other proxies', and no mistake; each value knows its line."""
    file = tmp_path / "mesh"
    file.write_text(FILE)
    said = layer({}, file)
    assert said.values == {
        "control_plane.address": "istiod.istio-system.svc:15012",
        "workers": 2,
        "control_plane.metadata.REGION": "eu",
    }
    assert said.sources["workers"] == f"{file}:5"
    assert said.sources["control_plane.metadata.REGION"] == f"{file}:8"


def test_proxy_config_wins_over_the_file(tmp_path: Path) -> None:
    """YAML or JSON; it has the shape of `defaultConfig`. Metadata of both are there."""
    (tmp_path / "mesh").write_text(FILE)
    metadata = '{"ISTIO_META_REGION": "us", "ISTIO_META_ZONE": "b"}'
    text = f'{{"concurrency": 0, "statsPort": 15099, "proxyMetadata": {metadata}}}'
    said = layer({"PROXY_CONFIG": text}, tmp_path / "mesh")
    assert said.values == {
        "control_plane.address": "istiod.istio-system.svc:15012",
        "workers": 0,
        "ports.stats": 15099,
        "control_plane.metadata.REGION": "us",
        "control_plane.metadata.ZONE": "b",
    }
    assert said.sources["workers"] == said.sources["control_plane.metadata.REGION"] == "$PROXY_CONFIG:1"
    alone = layer({"PROXY_CONFIG": text}, tmp_path / "none").values
    assert alone == {name: value for name, value in said.values.items() if name != "control_plane.address"}


def test_no_file_says_nothing(tmp_path: Path) -> None:
    """Most hosts have none."""
    assert layer({}, tmp_path / "none").values == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("defaultConfig: {concurrency: two}", "mesh:1: defaultConfig.concurrency: input should be a valid integer"),
        ("defaultConfig:\n  statsPort: 0\n", "mesh:2: defaultConfig.statsPort: "),
        ("defaultConfig: ]", "mesh:1: not YAML"),
    ],
)
def test_a_wrong_type_names_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    """Where we would have read it."""
    (tmp_path / "mesh").write_text(text)
    with pytest.raises(InvalidYaml) as caught:
        layer({}, tmp_path / "mesh")
    assert complaint in str(caught.value)
