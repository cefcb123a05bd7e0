"""IstiodAccess: what istiod knows this host's workloads by, one token or client certificate for each identity.

istiod lets nobody ask for another identity but the ztunnels of Kubernetes nodes, so on a host each workload needs its
own way in: `<tokens>/<namespace>/<service account>` with a JWT that istiod accepts (audience `istio-ca`), read again
for each call; or `<certificates>/<namespace>/<service account>/` with `key.pem` and `cert-chain.pem` of a certificate
of the mesh, which is replaced in `store` by each one that it has bought. A token is preferred: it does not depend on
the last renewal having come in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hostmesh.identity.ca_client import request_certificate
from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.node import NodeStore, NodeStoreBroken
from hostmesh.model.endpoint import Endpoint
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.channel import ControlPlane, NodeFiles
from hostmesh.rpc.failure import ControlPlaneError, Failure
from hostmesh.rpc.roots import Roots


class IstiodAccess:
    """Finds credentials and gets certificates with them.

    Args:
        endpoints: of istiod's port 15012.
        roots: that istiod's certificate must chain to.
        tokens: directory of token files.
        certificates: directory of client certificates to begin with.
        store: directory for the client certificates that came after.
        cluster_id: by which istiod picks who judges the token.
        ttl: seconds asked for; istiod may grant less.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        endpoints: Endpoint | Sequence[Endpoint],
        roots: Roots,
        *,
        tokens: Path,
        certificates: Path,
        store: Path,
        cluster_id: str,
        ttl: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoints = endpoints
        self._roots = roots
        self._tokens = tokens
        self._certificates = certificates
        self._store = store
        self._cluster_id = cluster_id
        self._ttl = ttl
        self._now = now

    def control_plane(self, identity: Identity) -> ControlPlane:
        """How to connect as this identity; call `headers` for each call."""
        token = _place(self._tokens, identity)
        return ControlPlane(self._endpoints, self._roots, None if token.exists() else self._files(identity))

    def headers(self, identity: Identity) -> Mapping[str, str]:
        """What goes with each call: the token as it is now, if there is one.

        Raises:
            ControlPlaneError: there is neither token nor client certificate.
        """
        path = _place(self._tokens, identity)
        headers = {"clusterid": self._cluster_id}
        try:
            token = path.read_text(encoding="ascii").strip()  # a newline would make an invalid header
        except FileNotFoundError:
            if not self._files(identity).chain.exists():
                raise ControlPlaneError(Failure.LOCAL, self._no_way_in(identity)) from None
            return headers
        except (OSError, UnicodeDecodeError) as error:
            why = f"{path}: the token for istiod cannot be read ({getattr(error, 'strerror', None) or 'not ASCII'})"
            raise ControlPlaneError(Failure.LOCAL, why) from error
        if not token:
            raise ControlPlaneError(Failure.LOCAL, f"{path}: the token for istiod is empty; write it again")
        return {**headers, "authorization": f"Bearer {token}"}

    async def fetch(self, identity: Identity) -> Credentials:
        """A new key with a certificate for `identity`.

        Raises:
            FetchFailed: there is no way in, or it was refused; the text says which.
        """
        try:
            headers = self.headers(identity)
        except ControlPlaneError as error:
            raise FetchFailed(str(error), error.failure) from error
        found = await request_certificate(self.control_plane(identity), identity, self._ttl, headers=headers)
        if "authorization" not in headers:
            self._keep(identity, found)
        return found

    def _files(self, identity: Identity) -> NodeFiles:
        store = NodeStore(_place(self._store, identity))
        try:
            kept = store.load()
        except NodeStoreBroken:
            kept = None
        if kept is not None and kept.not_after > self._now():
            return store.files
        given = _place(self._certificates, identity)
        return NodeFiles(given / "key.pem", given / "cert-chain.pem")

    def _keep(self, identity: Identity, credentials: Credentials) -> None:
        directory = _place(self._store, identity)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            NodeStore(directory).save(credentials)
        except OSError as error:
            where = error.filename or directory
            why = f"{where}: the new certificate cannot be kept ({error.strerror}); make room for it"
            raise FetchFailed(why, Failure.LOCAL) from error

    def _no_way_in(self, identity: Identity) -> str:
        return (
            f"istiod cannot know {identity}: put a token (audience istio-ca) of that service account at "
            f"{_place(self._tokens, identity)}, or a client certificate of the mesh into "
            f"{_place(self._certificates, identity)}/ as key.pem and cert-chain.pem"
        )


def _place(directory: Path, identity: Identity) -> Path:
    return directory / identity.namespace / identity.service_account
