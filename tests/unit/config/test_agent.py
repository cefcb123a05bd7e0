"""The agent's configuration: sources, precedence, mistakes."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from hostmesh.config.agent import AgentConfig, load
from hostmesh.config.proxy import ProxyConfig
from hostmesh.config.strict_yaml import InvalidYaml


def read(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> AgentConfig:
    (tmp_path / "agent.yaml").write_text(text)
    return load(tmp_path / "agent.yaml", environment or {}, tmp_path / "mesh")


def test_there_is_a_worker_for_each_core_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    """Those that this process may use; whatever else is not said is off."""
    config = read(tmp_path, "")
    assert config.workers == len(os.sched_getaffinity(0))
    assert read(tmp_path, "workers: 3").workers == 3
    settings = config.settings
    assert (settings.dns.enabled, settings.original_source, settings.socks5) == (False, False, False)


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
        (
            "local_xds_path: /x\nlocal_xds: x\n",
            {},
            "agent.yaml:2: local_xds: local_xds and local_xds_path are both",
        ),
        (
            "local_xds_path: /x\n",
            {"LOCAL_XDS": "x"},
            "$LOCAL_XDS: local_xds: local_xds and local_xds_path are both",
        ),
        (
            "local_xds: x\ncertificates: {source: control-plane}\n",
            {},
            "agent.yaml:2: certificates.source: the mesh",
        ),
        (
            "network_policy: {enforce: true}\n",
            {"XDS_ON_DEMAND": "true"},
            "$XDS_ON_DEMAND: xds_on_demand: network_policy.enforce does not work with xds_on_demand: what",
        ),
        ("", {"ZTUNNEL_WORKER_THREADS": "x"}, "$ZTUNNEL_WORKER_THREADS: 'x' is not a whole number"),
        ("", {"ZTUNNEL_WORKER_THREADS": "9999"}, "$ZTUNNEL_WORKER_THREADS: workers: input should be less than"),
        ("", {"XDS_ADDRESS": "a:99999"}, "$XDS_ADDRESS: control_plane.address: 'a:99999': the port must be 1 to 65535"),
        ("", {"XDS_ADDRESS": "5 parsecs"}, "$XDS_ADDRESS: control_plane.address: '5 parsecs' is not host:port"),
        (
            "",
            {"XDS_ADDRESS": ""},
            "$XDS_ADDRESS: control_plane.address: is empty; say where it is",
        ),
        ("control_plane: {addresses: [a, 'b:x']}\n", {}, "agent.yaml:1: control_plane.addresses[1]: 'b:x': the port"),
        ("trust_domain: a b\n", {}, "agent.yaml:1: trust_domain: string should match pattern"),
        ("", {"SECRET_TTL": "99999999999999999999"}, "$SECRET_TTL: certificates.ttl: input should be less than"),
        ("", {"LOG_FORMAT": "xml"}, "$LOG_FORMAT: log.format: input should be 'plain' or 'json' (got 'xml')"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, text: str, environment: dict[str, str], complaint: str) -> None:
    """In a file by line, in the environment by variable."""
    with pytest.raises(InvalidYaml) as caught:
        read(tmp_path, text, environment)
    assert complaint in str(caught.value)


def test_a_mesh_from_a_file_needs_no_control_plane(tmp_path: Path) -> None:
    """Ztunnel's way to say that there is none: an empty address."""
    config = read(tmp_path, "", {"XDS_ADDRESS": "", "LOCAL_XDS_PATH": "/etc/mesh.yaml"})
    assert (config.settings.local, config.settings.control_plane.address) == (True, "")


def test_what_goes_together_may_stand_in_several_files(tmp_path: Path) -> None:
    """Neither is wrong by itself, and what is wrong of both together is told where it stands."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "mesh.yaml").write_text("# of this host\nlocal_xds_path: /etc/mesh.yaml\n")
    assert read(tmp_path, "control_plane: {address: ''}\n", {}).settings.local
    with pytest.raises(InvalidYaml, match=r"agent.yaml:2: certificates.source"):
        read(tmp_path, "control_plane: {address: ''}\ncertificates: {source: control-plane}\n", {})


def test_istiod_needs_to_know_who_asks(tmp_path: Path) -> None:
    """Each identity has its own credentials there, so one must be named for the stream."""
    path = tmp_path / "agent.yaml"
    path.write_text("control_plane: {kind: istiod}\n")
    with pytest.raises(InvalidYaml, match="istiod needs xds_identity"):
        load(path, {})
    path.write_text("control_plane: {kind: istiod, xds_identity: vms/agent}\n")
    assert load(path, {}).settings.control_plane.xds_identity == "vms/agent"


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    """Only the default file may be missing."""
    with pytest.raises(InvalidYaml, match="no such file"):
        load(tmp_path / "other.yaml", {})


def test_the_proxy_configuration_survives_the_way_to_a_worker(tmp_path: Path) -> None:
    """JSON and back."""
    proxy = read(tmp_path, "node: n\npool_max_streams: 7\n").proxy()
    assert ProxyConfig.from_json(proxy.to_json()) == proxy


def test_variables_win_over_istios_mesh_config(tmp_path: Path) -> None:
    """In either of its forms: how many workers, and what is told of the host."""
    metadata = "proxyMetadata: {ISTIO_META_REGION: eu, ISTIO_META_ZONE: a}"
    (tmp_path / "mesh").write_text(f"defaultConfig: {{concurrency: 2, {metadata}}}\n")
    variables = {"PROXY_CONFIG": "{concurrency: 4}", "ISTIO_META_REGION": "us"}
    found = read(tmp_path, "", {**variables, "ZTUNNEL_WORKER_THREADS": "3"}).effective()
    assert found["workers"] == (3, "$ZTUNNEL_WORKER_THREADS")
    assert found["control_plane.metadata.REGION"] == ("us", "$ISTIO_META_REGION")
    assert found["control_plane.metadata.ZONE"] == ("a", f"{tmp_path}/mesh:1")
    assert read(tmp_path, "", variables).effective()["workers"] == (4, "$PROXY_CONFIG:1")


def test_every_setting_has_a_value_and_a_source(tmp_path: Path) -> None:
    """Files over variables over Istio's mesh config over defaults."""
    (tmp_path / "mesh").write_text("defaultConfig: {concurrency: 2, statsPort: 15090, proxyAdminPort: 15091}\n")
    text = "control_plane:\n  metadata: {a.b: c}\nworkers: 3\n"
    found = read(tmp_path, text, {"PROXY_CONFIG": "statsPort: 15092"}).effective()
    assert found["workers"] == (3, f"{tmp_path}/agent.yaml:3")
    assert found["ports.stats"] == (15092, "$PROXY_CONFIG:1")
    assert found["ports.admin"] == (15091, f"{tmp_path}/mesh:1")
    assert found["control_plane.metadata.a.b"] == ("c", f"{tmp_path}/agent.yaml:2")
    assert found["sockets.keepalive_time"] == (180, "default")
    assert found["node"][1] == "this host's name"
    assert found["state_dir"] == ("/var/lib/hostmesh", "default")


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("NODE_NAME", "n1", "node", "n1"),
        ("NETWORK", "net1", "network", "net1"),
        ("CLUSTER_ID", "c1", "cluster_id", "c1"),
        ("TRUST_DOMAIN", "example.org", "trust_domain", "example.org"),
        ("POOL_MAX_STREAMS_PER_CONNECTION", "7", "pool_max_streams", 7),
        ("POOL_UNUSED_RELEASE_TIMEOUT", "3m31s", "pool_unused_release", 211),
        ("HTTP2_STREAM_WINDOW_SIZE", "70000", "stream_window", 70000),
        ("HTTP2_CONNECTION_WINDOW_SIZE", "80000", "connection_window", 80000),
        ("HTTP2_FRAME_SIZE", "20000", "max_frame_size", 20000),
        ("KEEPALIVE_ENABLED", "false", "tcp_keepalive", False),
        ("KEEPALIVE_TIME", "1m", "tcp_keepalive_time", 60),
        ("KEEPALIVE_INTERVAL", "9", "tcp_keepalive_interval", 9),
        ("KEEPALIVE_RETRIES", "4", "tcp_keepalive_probes", 4),
        ("USER_TIMEOUT_ENABLED", "true", "tcp_user_timeout", True),
        ("ENABLE_RESPONSE_BAGGAGE", "false", "response_baggage", False),
        ("ENABLE_ORIG_SRC", "true", "original_source", True),
    ],
)
def test_a_variable_changes_one_thing_of_the_proxy(
    tmp_path: Path, variable: str, text: str, field: str, value: object
) -> None:
    """And nothing else."""
    before, after = (asdict(read(tmp_path, "", env).proxy()) for env in ({}, {variable: text}))
    assert {name: now for name, now in after.items() if now != before[name]} == {field: value}


def test_socket_and_window_settings_reach_the_proxy(tmp_path: Path) -> None:
    """By their names of ztunnel."""
    environment = {"KEEPALIVE_TIME": "1m", "KEEPALIVE_RETRIES": "4", "USER_TIMEOUT_ENABLED": "true"}
    proxy = read(tmp_path, "http2: {stream_window: 65535}\nresponse_baggage: false\n", environment).proxy()
    assert (proxy.tcp_keepalive_time, proxy.tcp_keepalive_probes, proxy.tcp_user_timeout) == (60, 4, True)
    assert (proxy.stream_window, proxy.response_baggage) == (65535, False)
