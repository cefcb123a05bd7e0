"""Rules for the node's own key and certificate on disk."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from tests.support.mesh import TRUST_DOMAIN, Mesh, background, until
from tests.support.records import records

from hostmesh.control.ca import CertificateAuthority
from hostmesh.identity.ca_client import CaClient
from hostmesh.identity.failure import FetchFailed
from hostmesh.identity.health import Health
from hostmesh.identity.node import RETRY_MAXIMUM, NodeRenewal, NodeStore, NodeStoreBroken
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.node import node_identity
from hostmesh.rpc.failure import Failure
from hostmesh.wire.x509 import credentials, new_key_and_csr

NODE = node_identity(TRUST_DOMAIN, "mesh2")


def issue(directory: Path, identity: Identity = NODE) -> Credentials:
    key, csr = new_key_and_csr(identity)
    return credentials(
        identity,
        key,
        CertificateAuthority(directory, TRUST_DOMAIN, records(directory)).sign(csr.decode(), identity, 0).chain,
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """But for the roots, which are the control plane's file; a TLS context takes the files as they are."""
    store = NodeStore(tmp_path)
    assert store.load() is None
    saved = issue(tmp_path / "ca")
    store.save(saved)
    loaded = store.load()
    assert loaded is not None
    assert (loaded.identity, loaded.chain_pem, loaded.serial) == (NODE, saved.chain_pem, saved.serial)
    assert (loaded.key_pem, loaded.not_after, loaded.roots_pem) == (saved.key_pem, saved.not_after, b"")
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(store.files.chain, store.files.key)


def test_files_are_private_and_replaced_as_a_pair(tmp_path: Path) -> None:
    """Key and certificate share a file, so no crash can leave one of each kind."""
    store = NodeStore(tmp_path)
    for _ in range(2):
        store.save(issue(tmp_path / "ca"))
    for name in ("node-key.pem", "node-cert.pem"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in (tmp_path / "node-cert.pem").read_text()
    (tmp_path / "node-cert.pem").unlink()
    assert store.load() is not None


def mixed(directory: Path) -> bytes:
    return issue(directory / "ca").key_pem + issue(directory / "ca").chain_pem


def keyless(directory: Path) -> bytes:
    return issue(directory / "ca").chain_pem


def chainless(directory: Path) -> bytes:
    return issue(directory / "ca").key_pem


@pytest.mark.parametrize("make", [mixed, keyless, chainless, lambda _: b"", lambda _: b"\xff" * 100])
def test_damage_is_named_with_the_way_out(tmp_path: Path, make: object) -> None:
    """The file, and the ways back in."""
    assert callable(make)
    (tmp_path / "node-key.pem").write_bytes(make(tmp_path))
    with pytest.raises(NodeStoreBroken, match=r"node-key.pem: .* is damaged .*enrol this node again"):
        NodeStore(tmp_path).load()


def test_the_node_renews_itself(tmp_path: Path) -> None:
    """A short certificate is replaced on disk through the real authority, and used for the next renewal."""

    async def main() -> None:
        async with Mesh(tmp_path, node_ttl=30).serving() as mesh:
            host = await mesh.host("mesh2")
            clock = [host.credentials.not_before + 1]
            client = CaClient(host.control_plane, 3600)
            renewal = NodeRenewal(host.store, host.credentials, client.fetch, now=lambda: clock[0], jitter=lambda: 0)
            async with background(renewal.run()):
                await asyncio.sleep(0.02)
                assert renewal.credentials == host.credentials
                clock[0] += 16
                renewal.retry_failed()
                await until(lambda: renewal.credentials != host.credentials)
            stored = host.store.load()
            assert stored is not None
            assert renewal.credentials is not None
            assert stored.serial == renewal.credentials.serial != host.credentials.serial

    asyncio.run(main())


def test_a_full_disk_is_a_failed_renewal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The present certificate stays in use, and it is tried again."""

    async def main() -> None:
        held, fresh = issue(tmp_path / "ca"), issue(tmp_path / "ca")
        store = NodeStore(tmp_path)
        (tmp_path / "node-key.pem.new").mkdir()

        async def fetch(_identity: Identity) -> Credentials:
            return fresh

        renewal = NodeRenewal(store, held, fetch, now=lambda: held.not_after - 60)
        async with background(renewal.run()):
            await until(lambda: "node-key.pem: cannot be written" in caplog.text)
            assert renewal.credentials == held

    asyncio.run(main())


def test_an_expired_node_says_so_and_goes_on_trying(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However often it fails, the log has it once; the pauses stay short, as the whole host waits."""
    asked = 0

    async def refuse(_identity: Identity) -> Credentials:
        nonlocal asked
        asked += 1
        raise FetchFailed("the control plane is unreachable", Failure.UNREACHABLE)

    async def main() -> None:
        held = issue(tmp_path / "ca")
        clock = [held.not_after + 1]
        renewal = NodeRenewal(NodeStore(tmp_path), held, refuse, now=lambda: clock[0])
        async with background(renewal.run()):
            for attempts in range(1, 20):
                await until(lambda attempts=attempts: asked >= attempts)  # type: ignore[misc]
                await until(lambda: renewal.status().last_error)
                assert renewal.status().renew_at - clock[0] <= RETRY_MAXIMUM
                clock[0] += RETRY_MAXIMUM
                renewal._manager._changed.set()
        assert renewal.credentials is None
        assert renewal.status().health is Health.ABSENT

    asyncio.run(main())
    lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 2
    assert "has expired" in lines[0]
    assert "the control plane is unreachable (there is no valid one; next try in" in lines[1]


def test_a_state_directory_that_cannot_be_written_is_known_before_a_token_is_spent(tmp_path: Path) -> None:
    """And what is stored is not touched by finding out."""
    store = NodeStore(tmp_path)
    store.save(issue(tmp_path / "ca"))
    store.check_writable()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca", "node-cert.pem", "node-key.pem"]
    with pytest.raises(OSError, match="probe"):
        NodeStore(tmp_path / "missing").check_writable()
