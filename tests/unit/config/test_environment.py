"""ztunnel's variables: what they become, what is wrong with them, which mean nothing here."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

import pytest

from hostmesh.config.agent import load
from hostmesh.config.environment import _SETTINGS, _WITHOUT_EFFECT, layer, without_effect
from hostmesh.config.strict_yaml import InvalidYaml

CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("XDS_ADDRESS", "https://istiod.example:15012", "control_plane.address", "istiod.example:15012"),
        ("XDS_ADDRESS", "istiod.example:15012", "control_plane.address", "istiod.example:15012"),
        ("POOL_UNUSED_RELEASE_TIMEOUT", "5m", "pool_unused_release", 300),
        ("HTTP2_FRAME_SIZE", "16384", "http2.max_frame_size", 16384),
        ("XDS_ON_DEMAND", "true", "xds_on_demand", True),
        ("KEEPALIVE_ENABLED", "false", "sockets.keepalive", False),
        ("USER_TIMEOUT_ENABLED", "true", "sockets.user_timeout", True),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "30", "drain_deadline", 25),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "10", "drain_deadline", 9),
        ("TERMINATION_GRACE_PERIOD_SECONDS", "0", "drain_deadline", 1),
        ("ZTUNNEL_WORKER_THREADS", "3", "workers", 3),
        ("ZTUNNEL_WORKER_THREADS", "0", "workers", 0),
        ("ZTUNNEL_WORKER_THREADS", "100%", "workers", CPUS),
        ("ZTUNNEL_WORKER_THREADS", "1%", "workers", ceil(CPUS / 100)),
        ("ZTUNNEL_WORKER_THREADS", "51%", "workers", ceil(CPUS * 51 / 100)),
        ("RUST_LOG", "hickory_server::server=off,info,ztunnel::access=debug", "log.level", "info,access=debug"),
        ("RUST_LOG", "WARN, ztunnel=Debug,h2", "log.level", "warn,debug,h2=trace"),
        ("RUST_LOG", "", "log.level", "info"),
        ("ISTIO_META_ISTIO_VERSION", "1.30", "control_plane.metadata.ISTIO_VERSION", "1.30"),
        ("ISTIO_META_CLUSTER_ID", "c1", "cluster_id", "c1"),
    ],
)
def test_variables(variable: str, text: str, setting: str, value: object) -> None:
    """Each becomes one setting, and says that it did."""
    said = layer({variable: text})
    assert (said.values, said.sources) == ({setting: value}, {setting: f"${variable}"})


PLAIN = {
    "NODE_NAME": "n",
    "NETWORK": "n",
    "CLUSTER_ID": "c",
    "ISTIO_META_CLUSTER_ID": "c",
    "CLUSTER_DOMAIN": "d",
    "TRUST_DOMAIN": "t",
    "XDS_ADDRESS": "x:1",
    "XDS_ROOT_CA": "/r",
    "ALT_XDS_HOSTNAME": "h",
    "SECRET_TTL": "1h",
    "POOL_MAX_STREAMS_PER_CONNECTION": "5",
    "POOL_UNUSED_RELEASE_TIMEOUT": "1m",
    "HTTP2_FRAME_SIZE": "20000",
    "HTTP2_STREAM_WINDOW_SIZE": "70000",
    "HTTP2_CONNECTION_WINDOW_SIZE": "70000",
    "KEEPALIVE_RETRIES": "3",
    "TERMINATION_GRACE_PERIOD_SECONDS": "30",
    "CONNECTION_TERMINATION_DEADLINE": "7s",
    "KEEPALIVE_TIME": "1m",
    "KEEPALIVE_ENABLED": "false",
    "KEEPALIVE_INTERVAL": "5",
    "USER_TIMEOUT_ENABLED": "true",
    "RUST_LOG": "debug",
    "ENABLE_RESPONSE_BAGGAGE": "false",
    "ENABLE_ORIG_SRC": "true",
    "UNSTABLE_ENABLE_SOCKS5": "true",
    "IPV6_ENABLED": "false",
    "ZTUNNEL_WORKER_THREADS": "3",
    "LOCAL_XDS_PATH": "/m",
    "LOCAL_XDS": "workloads: []",
    "XDS_ON_DEMAND": "true",
    "LOG_FORMAT": "json",
}


def test_every_variable_that_is_heeded_shows_in_the_settings(tmp_path: Path) -> None:
    """One by one: another value than the default, and the variable as its source. The document names each."""
    (tmp_path / "agent.yaml").write_text("")
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    default = load(tmp_path / "agent.yaml", {}, tmp_path / "mesh").effective()
    assert {name for name, *_ in _SETTINGS} == PLAIN.keys()
    for name, setting, _ in _SETTINGS:
        value, source = load(tmp_path / "agent.yaml", {name: PLAIN[name]}, tmp_path / "mesh").effective()[setting]
        assert (source, value != default[setting][0]) == (f"${name}", True)
        assert name in text or name.removeprefix("KEEPALIVE") in text or name == "ISTIO_META_CLUSTER_ID"


def test_the_deadline_wins_over_the_grace_period_and_the_metadata_over_the_cluster() -> None:
    """As ztunnel decides."""
    said = layer({"CONNECTION_TERMINATION_DEADLINE": "7s", "TERMINATION_GRACE_PERIOD_SECONDS": "30"})
    assert (said.values["drain_deadline"], said.sources["drain_deadline"]) == (7, "$CONNECTION_TERMINATION_DEADLINE")
    assert layer({"ISTIO_META_CLUSTER_ID": "b", "CLUSTER_ID": "a"}).values == {"cluster_id": "b"}


def test_every_mistake_is_told_with_its_variable() -> None:
    """All at once; a boolean is `true` or `false` and nothing else."""
    wrong = {
        "KEEPALIVE_ENABLED": "yes",
        "HTTP2_FRAME_SIZE": "big",
        "SECRET_TTL": "soon",
        "XDS_ADDRESS": "http://x:15010",
        "XDS_ROOT_CA": "SYSTEM",
        "ZTUNNEL_WORKER_THREADS": "150%",
        "ISTIO_META_DNS_PROXY_ADDR": "10.0.0.1",
        "TRUST_DOMAIN": "",
        "ALT_XDS_HOSTNAME": "",
        "LOCAL_XDS_PATH": "",
        "TERMINATION_GRACE_PERIOD_SECONDS": "-1",
    }
    with pytest.raises(InvalidYaml) as caught:
        layer(wrong)
    complaints = str(caught.value).splitlines()
    assert sorted(line.partition(":")[0] for line in complaints) == sorted(f"${name}" for name in wrong)
    assert "$LOCAL_XDS_PATH: is empty; give it a value, or unset it" in complaints
    assert "$KEEPALIVE_ENABLED: 'yes' is neither true nor false; write one of them" in complaints


def test_what_has_no_effect_is_known_by_name() -> None:
    """Families of variables too; those of other programs are nobody's business."""
    environment = {"PROXY_MODE": "dedicated", "XDS_HEADER_a": "b", "NODE_NAME": "n", "PATH": "/bin", "CA_ADDRESS": "x"}
    assert without_effect(environment) == ("CA_ADDRESS", "PROXY_MODE", "XDS_HEADER_a")


@pytest.mark.parametrize(
    ("name", "value", "setting", "heeded"),
    [
        ("DNS_CAPTURE", "TRUE", "dns.enabled", True),
        ("DNS_CAPTURE", "no", "dns.enabled", False),
        ("DNS_PROXY_ADDR", "localhost:1053", "dns.port", 1053),
        ("DNS_PROXY_ADDR", "127.0.0.1:53", "dns.port", 53),
        ("DNS_PROXY_ADDR", "[::1]:53", "dns.port", 53),
    ],
)
def test_metadata_that_is_heeded_is_sent_as_well(name: str, value: str, setting: str, heeded: object) -> None:
    """As with ztunnel, wherever it is said."""
    said = layer({f"ISTIO_META_{name}": value})
    assert said.values == {f"control_plane.metadata.{name}": value, setting: heeded}
    assert said.sources[setting] == f"$ISTIO_META_{name}"


def test_the_document_says_why_a_variable_has_no_effect() -> None:
    """Each of them, by its name."""
    text = (Path(__file__).parents[3] / "docs" / "ztunnel-differences.md").read_text()
    assert [name for name in _WITHOUT_EFFECT if f"`{name}`" not in text] == []
