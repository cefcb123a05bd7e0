"""The settings under ztunnel's names."""

from __future__ import annotations

from hostmesh.admin.ztunnel_config import config_json, version_json
from hostmesh.config.agent import AgentConfig
from hostmesh.config.settings import Settings


def config(**settings: object) -> dict[str, object]:
    return config_json(AgentConfig(Settings.model_validate({"node": "host1", **settings})))


def test_both_names_are_there() -> None:
    """Ours for people who read agent.yaml, ztunnel's for its tools; durations as Rust prints them."""
    found = config(pool_unused_release="1m", sockets={"user_timeout": True}, certificates={"ttl": 0.5})
    assert (found["node"], found["localNode"]) == ("host1", "host1")
    assert found["poolUnusedReleaseTimeout"] == {"secs": 60, "nanos": 0}
    assert found["secretTtl"] == {"secs": 0, "nanos": 500_000_000}
    assert found["adminAddr"] == {"Localhost": [True, 15000]}
    assert found["statsAddr"] == {"SocketAddr": "[::]:15020"}
    assert found["socketConfig"] == {
        "keepaliveTime": {"secs": 180, "nanos": 0},
        "keepaliveInterval": {"secs": 180, "nanos": 0},
        "keepaliveRetries": 9,
        "keepaliveEnabled": True,
        "userTimeoutEnabled": True,
    }
    assert found["xdsAddress"] == "https://localhost:15012"


NAMES = """
proxy dnsProxy windowSize connectionWindowSize frameSize poolMaxStreamsPerConn poolUnusedReleaseTimeout
socks5Addr adminAddr statsAddr readinessAddr inboundAddr inboundPlaintextAddr outboundAddr dnsProxyAddr
illegalPorts network localNode proxyMode proxyWorkloadInformation clusterId clusterDomain caAddress caRootCert
altCaHostname xdsAddress xdsRootCert altXdsHostname preferedServiceNamespace secretTtl xdsOnDemand fakeCa
fakeSelfInbound selfTerminationDeadline proxyMetadata numWorkerThreads requireOriginalSource proxyArgs
dnsResolverCfg dnsResolverOpts inpodUds inpodPortReuse packetMark socketConfig xdsHeaders caHeaders
localhostAppTunnel ztunnelIdentity ztunnelWorkload ipv6Enabled crlPath enableEnhancedBaggage
"""
LEFT_OUT = {
    "proxyArgs": "the command line of a Rust program",
    "dnsResolverCfg": "the host's resolver answers, whatever it is made of",
    "dnsResolverOpts": "as above",
    "inpodUds": "containers are not told by Istio's agent",
}


def test_every_name_of_ztunnels_is_there_but_those_that_mean_nothing_here() -> None:
    """A tool that looks for a field finds it; what does not exist on a host is null."""
    found = config()
    assert [name for name in NAMES.split() if name not in found] == list(LEFT_OUT)
    assert (found["socks5Addr"], found["requireOriginalSource"], found["crlPath"]) == (None, False, None)
    chosen = config(socks5=True, original_source=True, network="dc1")
    assert (chosen["socks5Addr"], chosen["requireOriginalSource"]) == ("127.0.0.1:15080", True)
    assert chosen["network"] == "dc1"


def test_without_a_control_plane_there_is_no_address() -> None:
    """Local mode, on a host without IPv6."""
    found = config(local_xds="workloads: []", ipv6=False)
    assert (found["xdsAddress"], found["caAddress"], found["inboundAddr"]) == ("", "", "0.0.0.0:15008")


def test_what_is_offered_is_shown() -> None:
    """Tools see whether applications learn their clients' addresses, and where they may ask by name."""
    names = ("requireOriginalSource", "socks5Addr")
    assert [config()[name] for name in names] == [False, None]
    asked = config(original_source=True, socks5=True)
    assert [asked[name] for name in names] == [True, "127.0.0.1:15080"]


def test_version() -> None:
    """Ours, with what it is made of."""
    assert version_json("1.2.3")["version"] == "1.2.3"
    assert version_json("1.2.3")["cryptoProvider"].startswith("OpenSSL")
