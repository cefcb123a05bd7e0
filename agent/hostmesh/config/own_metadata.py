"""Metadata that a node proxy heeds itself, beside sending it: whether and where it answers names (ztunnel's)."""

from __future__ import annotations

from hostmesh.config.layer import Layer, Wrong


def _is_true(value: str) -> object:
    return value.lower() == "true"


def _loopback_port(value: str) -> object:
    host, colon, port = value.rpartition(":")
    if not colon or host not in ("localhost", "127.0.0.1", "[::1]") or not port.isdecimal():
        raise Wrong(f"failed to parse DNS_PROXY_ADDR: {value!r} is not localhost:PORT; names are answered on loopback")
    return int(port)


_HEEDED = {"DNS_CAPTURE": ("dns.enabled", _is_true), "DNS_PROXY_ADDR": ("dns.port", _loopback_port)}


def put(said: Layer, name: str, value: str, source: str) -> None:
    """Add one entry, without its prefix, to what is sent, and to what is heeded."""
    said.put(f"control_plane.metadata.{name}", value, source)
    if name in _HEEDED:
        setting, convert = _HEEDED[name]
        said.read(setting, value, source, convert)
