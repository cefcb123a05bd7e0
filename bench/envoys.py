"""A pair of Envoys that do what a pair of agents does: HBONE with mTLS, a policy, statistics and an access log."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.support import envoy
from tests.support.pki import Authority

from bench.identities import CLIENT, SERVER
from bench.site import APPLICATION_PORT, Site

Json = dict[str, Any]

CLIENT_PORT = 15001
HBONE_PORT = 15008
ADMIN_PORT = 15000
PLAINTEXT_PORT = 15006

_OUTBOUND = "type nat hook output priority -100; ip daddr {ip} tcp dport {port} redirect to :{proxy}"
_INBOUND = 'type nat hook prerouting priority -100; iifname != "lo" tcp dport {port} redirect to :{proxy}'
"""As a mesh redirects for a proxy that is not hostmesh: by address, two rules, nothing to look up."""

_UNLIMITED = 1 << 20
_LINE = (
    "%START_TIME% access connection complete src.addr=%DOWNSTREAM_REMOTE_ADDRESS% src.identity={identity} "
    "dst.addr=%UPSTREAM_HOST% dst.hbone_addr={authority} bytes_sent=%BYTES_SENT% bytes_recv=%BYTES_RECEIVED% "
    "duration=%DURATION%ms response_flags=%RESPONSE_FLAGS%\n"
)


@contextmanager
def pair(where: Site) -> Iterator[dict[str, int]]:
    """Start both, one worker thread each; their pids."""
    authority = Authority()
    server_ip = where.server.namespace.v4
    app = (server_ip, APPLICATION_PORT)
    peer = (server_ip, HBONE_PORT)
    names = f"{server_ip}:{APPLICATION_PORT}"
    client = envoy.client(CLIENT_PORT, peer, names, SERVER, authority.issue(CLIENT), ADMIN_PORT)
    server = envoy.server(HBONE_PORT, app, authority.issue(SERVER), SERVER.trust_domain, ADMIN_PORT)
    _complete_client(client, str(where.directory / "client-access.log"))
    _complete_server(server, str(where.directory / "server-access.log"))
    with ExitStack() as stack:
        pids = {}
        for name, host, config in (("server", where.server, server), ("client", where.client, client)):
            directory = where.directory / name
            directory.mkdir()
            with host.namespace.entered():
                _capture(name, server_ip)
                pids[f"envoy {name}"] = stack.enter_context(envoy.running(config, directory, ADMIN_PORT)).pid
        yield pids


def _capture(name: str, server_ip: str) -> None:
    """Connections reach the client's proxy by redirection, as every connection of a mesh does."""
    if name == "client":
        chain = _OUTBOUND.format(ip=server_ip, port=APPLICATION_PORT, proxy=CLIENT_PORT)
    else:
        chain = _INBOUND.format(port=APPLICATION_PORT, proxy=PLAINTEXT_PORT)
    subprocess.run(["nft", f"table ip capture {{\n chain {name} {{ {chain}\n}}\n}}"], check=True)


def cipher(where: Site) -> str:
    """What the client's Envoy has negotiated, as its statistics count it."""
    marker = ".ssl.ciphers."
    with where.client.namespace.entered():
        url = f"http://127.0.0.1:{ADMIN_PORT}/stats?format=json&filter=ssl.ciphers"
        with urllib.request.urlopen(url, timeout=5) as answer:
            stats = json.load(answer)["stats"]
    found = {stat["name"].partition(marker)[2] for stat in stats if stat.get("value")}
    return ", ".join(sorted(found)) or "none"


def _complete_client(config: Json, log: str) -> None:
    proxy = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    proxy["access_log"] = [_access_log(log, str(CLIENT), "hbone")]
    proxy["tunneling_config"]["headers_to_add"] = [
        _header(
            "baggage", "k8s.cluster.name=Kubernetes,k8s.namespace.name=bench,k8s.deployment.name=load,service.name=load"
        ),
        _header("forwarded", "for=%DOWNSTREAM_REMOTE_ADDRESS%"),
        _header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    _lift_limits(config)


def _complete_server(config: Json, log: str) -> None:
    listener = config["static_resources"]["listeners"][0]
    listener["address"]["socket_address"]["address"] = "0.0.0.0"
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"] = [_access_log(log, "%DOWNSTREAM_PEER_URI_SAN%", "%REQ(:AUTHORITY)%")]
    # On every CONNECT, as an ambient proxy judges; the network filter would judge a tunnel once for all its streams.
    manager["http_filters"].insert(0, {"name": "envoy.filters.http.rbac", "typed_config": _policy()})
    _lift_limits(config)


def _policy() -> Json:
    peer = {"authenticated": {"principal_name": {"exact": str(CLIENT)}}}
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {
            "action": "ALLOW",
            "policies": {"allow-load": {"permissions": [{"any": True}], "principals": [peer]}},
        },
    }


def _access_log(path: str, identity: str, authority: str) -> Json:
    line = _LINE.format(identity=identity, authority=authority)
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"text_format_source": {"inline_string": line}},
        },
    }


def _header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _lift_limits(config: Json) -> None:
    """The default of 1024 connections is a circuit breaker and no property of the proxy."""
    names = ("max_connections", "max_pending_requests", "max_requests")
    for cluster in config["static_resources"]["clusters"]:
        cluster["circuit_breakers"] = {"thresholds": [dict.fromkeys(names, _UNLIMITED)]}
