"""The agent's configuration: sources, precedence, mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.config.agent import AgentConfig, load
from hostmesh.config.proxy import ProxyConfig
from hostmesh.config.strict_yaml import InvalidYaml


def read(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> AgentConfig:
    (tmp_path / "agent.yaml").write_text(text)
    return load(tmp_path / "agent.yaml", environment or {})


def test_the_file_wins_over_the_environment_and_both_are_remembered(tmp_path: Path) -> None:
    """Every value knows where it came from."""
    config = read(tmp_path, "certificates:\n  ttl: 60s\n", {"SECRET_TTL": "24h", "NETWORK": "n1"})
    assert config.settings.certificates.ttl == 60
    assert config.settings.network == "n1"
    assert config.sources["certificates.ttl"] == f"{tmp_path}/agent.yaml:2"
    assert config.sources["network"] == "$NETWORK"


def test_conf_d_overrides_the_file_in_the_order_of_names(tmp_path: Path) -> None:
    """Drop-ins as systemd's users know them."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-a.yaml").write_text("node: a\n")
    (tmp_path / "conf.d" / "20-b.yaml").write_text("node: b\n")
    assert read(tmp_path, "node: x\nnetwork: n\n").node == "b"
    assert read(tmp_path, "node: x\nnetwork: n\n").settings.network == "n"


@pytest.mark.parametrize(
    ("text", "environment", "complaint"),
    [
        ("nod: x\n", {}, "agent.yaml:1: nod: unknown field; did you mean 'node'?"),
        (
            "control_plane:\n  adress: x\n",
            {},
            "agent.yaml:2: control_plane.adress: unknown field; did you mean 'address'?",
        ),
        ("workers: many\n", {}, "agent.yaml:1: workers: input should be a valid integer"),
        ("certificates: {ttl: soon}\n", {}, "agent.yaml:1: certificates.ttl: 'soon' is not a duration"),
        ("- a\n", {}, "agent.yaml:1: must be a mapping of settings"),
        ("", {"ZTUNNEL_WORKER_THREADS": "x"}, "$ZTUNNEL_WORKER_THREADS:1: 'x' is not a number"),
        ("", {"ZTUNNEL_WORKER_THREADS": "9999"}, "$ZTUNNEL_WORKER_THREADS:1: workers"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, text: str, environment: dict[str, str], complaint: str) -> None:
    """In a file by line, in the environment by variable."""
    with pytest.raises(InvalidYaml) as caught:
        read(tmp_path, text, environment)
    assert complaint in str(caught.value)


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    """Only the default file may be missing."""
    with pytest.raises(InvalidYaml, match="no such file"):
        load(tmp_path / "other.yaml", {})


def test_the_proxy_configuration_survives_the_way_to_a_worker(tmp_path: Path) -> None:
    """JSON and back."""
    proxy = read(tmp_path, "node: n\npool_max_streams: 7\n").proxy()
    assert ProxyConfig.from_json(proxy.to_json()) == proxy
