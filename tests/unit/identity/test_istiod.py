"""Rules of living with istiod: one credential for each identity, and what it takes from each."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.support.istiod import TRUST_DOMAIN, Istiod

from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.istiod import IstiodAccess
from hostmesh.model.identity import Identity
from hostmesh.rpc.failure import Failure
from hostmesh.wire.x509 import new_key_and_csr

WEB, API = Identity(TRUST_DOMAIN, "default", "web"), Identity(TRUST_DOMAIN, "prod", "api")


def access(istiod: Istiod, directory: Path, later: float = 0.0) -> IstiodAccess:
    return IstiodAccess(
        istiod.endpoint,
        istiod.roots,
        tokens=directory / "tokens",
        certificates=directory / "certificates",
        store=directory / "state",
        cluster_id="Kubernetes",
        ttl=3600,
        now=lambda: time.time() + later,
    )


def put_token(directory: Path, identity: Identity, token: str) -> None:
    path = directory / "tokens" / identity.namespace / identity.service_account
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(token)


def put_certificate(istiod: Istiod, directory: Path, identity: Identity) -> None:
    key, csr = new_key_and_csr(identity)
    path = directory / "certificates" / identity.namespace / identity.service_account
    path.mkdir(parents=True)
    (path / "key.pem").write_bytes(key)
    (path / "cert-chain.pem").write_text("".join(istiod.ca.sign(csr.decode(), identity, 600).chain[:-1]))


def test_each_identity_goes_by_its_own_token(tmp_path: Path) -> None:
    """Nobody is impersonated; the newline at the end of a file is no part of the token; a new token is used at once."""

    async def main() -> None:
        async with Istiod(tmp_path / "istiod").serving() as istiod:
            istiod.tokens = {"t-web": WEB, "t-api": API, "t-api2": API}
            put_token(tmp_path, WEB, "t-web\n")
            put_token(tmp_path, API, "t-api")
            ways_in = access(istiod, tmp_path)
            found = [await ways_in.fetch(identity) for identity in (WEB, API)]
            assert [one.identity for one in found] == [WEB, API]
            assert found[0].roots_pem == istiod.ca.roots_pem
            put_token(tmp_path, API, "t-api2\n")
            del istiod.tokens["t-api"]
            assert (await ways_in.fetch(API)).identity == API
            assert istiod.callers == [("token", WEB), ("token", API), ("token", API)]

    asyncio.run(main())


def test_a_client_certificate_buys_the_next_one(tmp_path: Path) -> None:
    """Each that was bought is kept, private, and used for the next; the given one serves again if that has expired."""

    async def main() -> None:
        async with Istiod(tmp_path / "istiod").serving() as istiod:
            put_certificate(istiod, tmp_path, WEB)
            first = await access(istiod, tmp_path).fetch(WEB)
            (tmp_path / "certificates" / "default" / "web" / "key.pem").rename(tmp_path / "aside")
            second = await access(istiod, tmp_path).fetch(WEB)
            assert second.serial != first.serial
            assert istiod.callers == [("certificate", WEB)] * 2
            kept = tmp_path / "state" / "default" / "web" / "node-key.pem"
            assert kept.stat().st_mode & 0o777 == 0o600
            with pytest.raises(FetchFailed, match=r"certificates/default/web/cert-chain.pem"):
                await access(istiod, tmp_path, later=7200).fetch(WEB)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("token", "failure", "words"),
    [
        (None, Failure.LOCAL, "put a token .* at .*tokens/default/web, or a client certificate"),
        ("", Failure.LOCAL, "tokens/default/web: the token for istiod is empty"),
        ("t\xe9", Failure.LOCAL, "cannot be read .not ASCII"),
        ("wrong", Failure.NOT_ADMITTED, "UNAUTHENTICATED: authentication failure"),
        ("t-api", None, "did not find expected SAN: spiffe://cluster.local/ns/default/sa/web"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, token: str | None, failure: Failure | None, words: str) -> None:
    """With the file and the next step; another identity's token is noticed, as istiod signs what the token says."""

    async def main() -> None:
        async with Istiod(tmp_path / "istiod").serving() as istiod:
            istiod.tokens = {"t-api": API}
            if token is not None:
                put_token(tmp_path, WEB, token)
            with pytest.raises(FetchFailed, match=words) as failed:
                await access(istiod, tmp_path).fetch(WEB)
            assert failure in (None, failed.value.failure)

    asyncio.run(main())
