"""`config` and `version` of `/config_dump` under ztunnel's names, for tools that read them there."""

from __future__ import annotations

import platform
import ssl
from typing import Any

from hostmesh.config.agent import AgentConfig
from hostmesh.config.proxy import ProxyConfig
from hostmesh.config.settings import Ports, Settings

Json = dict[str, Any]


def config_json(config: AgentConfig) -> Json:
    """Ours as agent.yaml names them, and ztunnel's beside them."""
    settings = config.settings
    return {**settings.model_dump(mode="json"), **_ztunnel(config, settings, config.proxy())}


def version_json(version: str) -> Json:
    """What is running; fields that only a Rust program has are left out."""
    return {
        "version": version,
        "component": "hostmesh-agent",
        "buildProfile": "release",
        "buildStatus": "Clean",
        "istioVersion": "unknown",
        "pythonVersion": platform.python_version(),
        "cryptoProvider": ssl.OPENSSL_VERSION,
    }


def _ztunnel(config: AgentConfig, settings: Settings, proxy: ProxyConfig) -> Json:
    ports: Ports = settings.ports
    control_plane = settings.control_plane
    everywhere = "[::]" if settings.ipv6 else "0.0.0.0"
    address = "" if settings.local else f"https://{control_plane.everywhere[0]}"
    root: Json = {"File": str(control_plane.root_cert)}
    return {
        "proxy": True,
        "dnsProxy": settings.dns.enabled,
        "windowSize": proxy.stream_window,
        "connectionWindowSize": proxy.connection_window,
        "frameSize": proxy.max_frame_size,
        "poolMaxStreamsPerConn": proxy.pool_max_streams,
        "poolUnusedReleaseTimeout": _duration(proxy.pool_unused_release),
        "socks5Addr": "127.0.0.1:15080" if settings.socks5 else None,
        "adminAddr": {"Localhost": [settings.ipv6, ports.admin]},
        "statsAddr": {"SocketAddr": f"{everywhere}:{ports.stats}"},
        "readinessAddr": {"SocketAddr": f"{everywhere}:{ports.readiness}"},
        "inboundAddr": f"{everywhere}:15008",
        "inboundPlaintextAddr": f"{everywhere}:15006",
        "outboundAddr": "127.0.0.1:15001",
        "dnsProxyAddr": {"Localhost": [False, settings.dns.port]} if settings.dns.enabled else None,
        "illegalPorts": sorted(proxy.illegal_ports),
        "network": settings.network,
        "localNode": config.node,
        "proxyMode": "Shared",
        "proxyWorkloadInformation": None,
        "clusterId": settings.cluster_id,
        "clusterDomain": settings.dns.domain,
        "caAddress": "" if settings.certificates_from_files else address,
        "caRootCert": root,
        "altCaHostname": control_plane.server_name,
        "xdsAddress": address,
        "xdsRootCert": root,
        "altXdsHostname": control_plane.server_name,
        "preferedServiceNamespace": settings.dns.namespace,
        "secretTtl": _duration(settings.certificates.ttl),
        "xdsOnDemand": settings.xds_on_demand,
        "fakeCa": False,
        "fakeSelfInbound": False,
        "selfTerminationDeadline": _duration(settings.drain_deadline),
        "proxyMetadata": dict(control_plane.metadata),
        "numWorkerThreads": config.workers,
        "requireOriginalSource": proxy.original_source,
        "inpodPortReuse": False,
        "packetMark": proxy.mark,
        "socketConfig": {
            "keepaliveTime": _duration(proxy.tcp_keepalive_time),
            "keepaliveInterval": _duration(proxy.tcp_keepalive_interval),
            "keepaliveRetries": proxy.tcp_keepalive_probes,
            "keepaliveEnabled": proxy.tcp_keepalive,
            "userTimeoutEnabled": proxy.tcp_user_timeout,
        },
        "xdsHeaders": [],
        "caHeaders": [],
        "localhostAppTunnel": True,
        "ztunnelIdentity": None,
        "ztunnelWorkload": None,
        "ipv6Enabled": settings.ipv6,
        "crlPath": None,
        "enableEnhancedBaggage": proxy.response_baggage,
    }


def _duration(seconds: float) -> Json:
    whole = int(seconds)
    return {"secs": whole, "nanos": round((seconds - whole) * 1_000_000_000)}
