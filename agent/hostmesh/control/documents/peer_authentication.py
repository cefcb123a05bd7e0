"""Istio PeerAuthentication (security.istio.io): which ports refuse plaintext."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, Resource, Selector, Strict, check_selector, warning

Mode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class MutualTls(Strict):
    """UNSET inherits from the namespace, then from the mesh."""

    mode: Mode = "UNSET"


class PeerAuthenticationSpec(Strict):
    """`port_level_mtls` is keyed by workload port, written as text."""

    selector: Selector | None = None
    mtls: MutualTls = MutualTls()
    port_level_mtls: dict[str, MutualTls] | None = None


class PeerAuthentication(Resource):
    """One level's demand: mesh (root namespace), namespace, or the workloads that a selector chooses."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()

    @property
    def selector_labels(self) -> Mapping[str, str]:
        """Empty when the object speaks for its whole namespace."""
        return self.spec.selector.match_labels if self.spec.selector else {}

    @property
    def ports(self) -> Mapping[int, Mode]:
        """Modes of single workload ports."""
        return {int(port): mtls.mode for port, mtls in (self.spec.port_level_mtls or {}).items()}


def check_peer_authentication(policy: PeerAuthentication) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = policy.spec
    if spec.selector is not None:
        yield from check_selector(policy.selector_labels, ("spec", "selector"))
    if spec.mtls.mode == "DISABLE":
        why = "means PERMISSIVE here: HBONE is always accepted beside plaintext. Write PERMISSIVE"
        yield warning(("spec", "mtls", "mode"), why)
    path: Path = ("spec", "portLevelMtls")
    if spec.port_level_mtls is None:
        return
    if not spec.port_level_mtls:
        yield Finding(path, "port level mTLS must have at least one element; name a port or remove the field")
    if not policy.selector_labels:
        yield Finding(
            path, "mesh/namespace peer authentication cannot have port level mTLS; add a selector with labels"
        )
    for port in spec.port_level_mtls:
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
            yield Finding((*path, port), f"{port!r} is not a port between 1 and 65535")
