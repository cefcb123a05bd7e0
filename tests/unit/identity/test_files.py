"""Certificates from files: what is taken, and what is said about what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.pki import ALICE, BOB, Authority

from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.files import FileCertificates
from hostmesh.model.identity import Credentials, Identity


def put(directory: Path, credentials: Credentials, place: Identity | None = None) -> Path:
    """As an operator or a tool would."""
    identity = place or credentials.identity
    folder = directory / identity.namespace / identity.service_account
    folder.mkdir(parents=True)
    (folder / "key.pem").write_bytes(credentials.key_pem)
    (folder / "key.pem").chmod(0o640)
    (folder / "cert-chain.pem").write_bytes(credentials.chain_pem)
    (folder / "root-cert.pem").write_bytes(credentials.roots_pem)
    return folder


def fetch(directory: Path, identity: Identity) -> Credentials:
    return asyncio.run(FileCertificates(directory).fetch(identity))


def test_key_chain_and_roots(tmp_path: Path) -> None:
    """With an intermediate."""
    issued = Authority().intermediate().issue(ALICE)
    put(tmp_path, issued)
    found = fetch(tmp_path, ALICE)
    assert (found.identity, found.serial, found.not_after) == (ALICE, issued.serial, issued.not_after)
    assert (found.key_pem, found.chain_pem, found.roots_pem) == (issued.key_pem, issued.chain_pem, issued.roots_pem)


def test_what_is_wrong_is_named_with_its_file(tmp_path: Path) -> None:
    """Nothing there, a key for everybody, another one's certificate, no certificate at all."""
    with pytest.raises(FetchFailed, match=r"default/alice/key\.pem: cannot be read \(No such file"):
        fetch(tmp_path, ALICE)
    folder = put(tmp_path, Authority().issue(BOB), ALICE)
    with pytest.raises(FetchFailed, match=r"default/alice: did not find expected SAN: spiffe://.*/sa/alice"):
        fetch(tmp_path, ALICE)
    (folder / "cert-chain.pem").write_text("nothing")
    with pytest.raises(FetchFailed, match="default/alice: no root certificate present"):
        fetch(tmp_path, ALICE)
    (folder / "key.pem").chmod(0o644)
    with pytest.raises(FetchFailed, match=r"everybody may read this key; next: chmod 0640 .*/key\.pem"):
        fetch(tmp_path, ALICE)
