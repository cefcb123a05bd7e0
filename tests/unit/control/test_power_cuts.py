"""A control plane that is killed at any step of apply, enrol and renew: what it said is true, nothing is half done."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError
from tests.support.documents import document
from tests.support.fuse import run_until_killed
from tests.support.mesh import TRUST_DOMAIN, workload
from tests.support.records import records

from hostmesh.control.apply import Input
from hostmesh.control.audit import AuditLog
from hostmesh.control.ca import CertificateAuthority
from hostmesh.control.directory import Directory
from hostmesh.control.enrolment_service import EnrolmentService
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.nodes import NodeRegistry
from hostmesh.control.store import DocumentStore
from hostmesh.control.tokens import TokenStore
from hostmesh.wire.proto.enrolment_pb2 import EnrolRequest
from hostmesh.wire.x509 import new_key_and_csr

MOST = 200


@pytest.fixture
def place() -> Iterator[Path]:
    """In memory: what a killed process has written is there, and nothing waits for a disk hundreds of times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def steps() -> Iterator[int]:
    """Every system call, until the work survives."""
    return iter(range(1, MOST))


def service(name: str) -> str:
    return document(
        "ServiceEntry",
        f"hosts: [{name}.example]\nports: [{{name: tcp, number: 80, protocol: TCP}}]\nresolution: STATIC",
        f"name: {name}",
    )


def documents(directory: Path) -> DocumentStore:
    (directory / "documents").mkdir(parents=True, exist_ok=True)
    store = DocumentStore(
        Directory(directory / "documents", directory / "applying.json"), records(directory), directory, MeshConfig()
    )
    store.start()
    return store


def live(store: DocumentStore) -> dict[str, list[str]]:
    assert store.problems == ()
    assert store.current is not None
    return {one.name: [str(vip.ip) for vip in one.vips] for one in store.current.translation.services}


@pytest.mark.parametrize("torn", [False, True])
def test_apply(place: Path, torn: bool) -> None:
    """Several documents: all of them or none, all if it was acknowledged; addresses that were given stay."""
    outcomes = set()
    for step in steps():
        directory = place / str(step)
        before = documents(directory)
        before.apply([Input("old", service("old")), Input("gone", service("gone"))], dry_run=False)
        given = live(before)["old"]

        def work(directory: Path = directory) -> bool:
            changes = [Input(name, service(name)) for name in ("a", "b", "c")]
            documents(directory).apply(changes, dry_run=False)
            return True

        acknowledged, _ = run_until_killed(work, step, torn=torn)
        after = live(documents(directory))
        assert set(after) in ({"old", "gone"}, {"old", "gone", "a", "b", "c"})
        assert after["old"] == given
        assert not (directory / "applying.json").exists()
        outcomes.add(len(after))
        if acknowledged:
            assert len(after) == 5
            break
    else:
        pytest.fail("it never survived")
    assert outcomes == {2, 5}


def authority(directory: Path) -> CertificateAuthority:
    return CertificateAuthority(directory / "ca", TRUST_DOMAIN, records(directory))


def enrol(directory: Path, token: str) -> int:
    """As the service does it; the serial number."""
    kept = records(directory)
    ca = CertificateAuthority(directory / "ca", TRUST_DOMAIN, kept)
    service = EnrolmentService(ca, TokenStore(kept), AuditLog(directory / "audit.log"), NodeRegistry(kept))
    _, csr = new_key_and_csr(workload("mesh1"))
    request = EnrolRequest(node="mesh1", token=token, csr=csr.decode())
    return service._admit(request, "127.0.0.1:1", "127.0.0.1").serial


@pytest.mark.parametrize("torn", [False, True])
def test_enrol(place: Path, torn: bool) -> None:
    """A token that has admitted admits nobody else; a certificate that was handed out can be revoked."""
    for step in steps():
        directory = place / str(step)
        directory.mkdir()
        token = TokenStore(records(directory)).mint("mesh1")
        admitted, serial = run_until_killed(partial(enrol, directory, token), step, torn=torn)
        if not admitted:
            with suppress(GRPCError):  # it may have been used up, with nobody admitted: another one is minted
                enrol(directory, token)
            assert enrol(directory, TokenStore(records(directory)).mint("mesh1"))
            continue
        with pytest.raises(GRPCError, match="TOKEN_REPLAYED"):
            enrol(directory, token)
        assert authority(directory).ledger.find(serial) is not None
        return
    pytest.fail("it never survived")


def test_renew_and_revoke(place: Path) -> None:
    """What was signed is in the ledger, what was revoked stays so, and the root is always the same pair."""
    fresh = place / "fresh"
    fresh.mkdir()
    root = authority(fresh).roots_pem

    def work() -> int:
        ca = authority(fresh)
        _, csr = new_key_and_csr(workload("web"))
        issued = ca.sign(csr.decode(), workload("web"), 3600, "mesh1")
        ca.revocations.revoke_serial(issued.serial, "keyCompromise", ca.ledger.find(issued.serial))
        return issued.serial

    for step in steps():
        survived, serial = run_until_killed(work, step, torn=bool(step % 2))
        after = authority(fresh)
        assert after.roots_pem == root
        assert after.revocations.number == len(after.revocations.serials)
        if survived:
            assert after.ledger.find(serial) is not None
            assert after.revocations.revokes(serial, workload("other"))
            return
    pytest.fail("it never survived")


def start(directory: Path) -> bool:
    return bool(authority(directory).roots_pem)


def test_the_first_start(place: Path) -> None:
    """The root is there or not, and never half; the second start has one."""
    for step in steps():
        directory = place / str(step)
        directory.mkdir()
        survived, _ = run_until_killed(partial(start, directory), step)
        root = authority(directory).roots_pem
        assert authority(directory).roots_pem == root
        if survived:
            return
    pytest.fail("it never survived")
