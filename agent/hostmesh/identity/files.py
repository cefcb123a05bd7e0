"""Certificates that somebody else puts on the disk, in the files that Istio's tools write for a proxy."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from hostmesh.identity.failure import FetchFailed
from hostmesh.model.identity import Credentials, Identity
from hostmesh.rpc.failure import Failure
from hostmesh.wire.x509 import BadCertificate, credentials, split_pem

KEY, CHAIN, ROOTS = "key.pem", "cert-chain.pem", "root-cert.pem"


class FileCertificates:
    """Reads `<directory>/<namespace>/<service account>/` when a certificate is wanted or half of its life is over."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def fetch(self, identity: Identity) -> Credentials:
        """What lies there for this identity.

        Raises:
            FetchFailed: nothing, or nothing usable; names the file and the next step.
        """
        return await asyncio.to_thread(self._read, identity)

    def _read(self, identity: Identity) -> Credentials:
        directory = self._directory / identity.namespace / identity.service_account
        key, chain, roots = (_content(directory / name) for name in (KEY, CHAIN, ROOTS))
        try:
            return credentials(identity, key, [*(block.decode() for block in split_pem(chain)), roots.decode()])
        except (BadCertificate, ValueError) as error:
            raise FetchFailed(f"{directory}: {error}", Failure.LOCAL) from error


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            if file.name == KEY and stat.S_IMODE(file.stat().st_mode) & 0o007:
                raise FetchFailed(f"{file}: everybody may read this key; next: chmod 0640 {file}", Failure.LOCAL)
            return opened.read()
    except OSError as error:
        raise FetchFailed(f"{file}: cannot be read ({error.strerror})", Failure.LOCAL) from error
