"""Rules of the certificate authority: its root, what it signs, its server's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.support.mesh import TRUST_DOMAIN, workload
from tests.support.records import records

from hostmesh.control.ca import CaBroken, CertificateAuthority, IdentityRevoked
from hostmesh.control.csr import BadRequest
from hostmesh.model.node import inbound_identity
from hostmesh.wire.x509 import credentials, new_key_and_csr

WEB = workload("web")
DAY = 86400.0
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def authority(directory: Path, clock: Clock | None = None, **options: float) -> CertificateAuthority:
    return CertificateAuthority(directory / "ca", TRUST_DOMAIN, records(directory), now=clock or Clock(), **options)


def sans(pem: str) -> list[str]:
    extension = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return [str(name.value) for name in extension.value]


def request() -> str:
    return new_key_and_csr(WEB)[1].decode()


def test_the_root_is_made_once_and_kept(tmp_path: Path) -> None:
    """First start makes a root of ten years with its key 0600; later starts find it."""
    first = authority(tmp_path)
    root = x509.load_pem_x509_certificate(first.roots_pem)
    assert root.not_valid_after_utc.timestamp() == pytest.approx(NOW + 3650 * DAY, abs=1)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert (tmp_path / "ca" / "root-key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    assert authority(tmp_path).roots_pem == first.roots_pem == first.root_path.read_bytes()


def test_a_lost_root_certificate_is_made_again_with_the_same_key(tmp_path: Path) -> None:
    """What the key has signed before stays trusted by those who get the new root."""
    first = authority(tmp_path)
    leaf = x509.load_pem_x509_certificate(first.sign(request(), WEB, DAY).chain[0].encode())
    first.root_path.unlink()
    again = x509.load_pem_x509_certificate(authority(tmp_path).roots_pem)
    leaf.verify_directly_issued_by(again)


def break_key(directory: Path) -> None:
    (directory / "root-key.pem").unlink()


def garble_key(directory: Path) -> None:
    (directory / "root-key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")


def garble_root(directory: Path) -> None:
    (directory / "root-cert.pem").write_text("x")


def swap_root(directory: Path) -> None:
    other = CertificateAuthority(directory.parent / "other", TRUST_DOMAIN, records(directory.parent))
    (directory / "root-cert.pem").write_bytes(other.roots_pem)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (break_key, "private key is missing.*restore"),
        (garble_key, "root-key.pem: not a PEM private key"),
        (garble_root, "root-cert.pem: not a usable CA certificate"),
        (swap_root, "does not belong to root-key.pem"),
    ],
)
def test_a_damaged_root_is_never_replaced_in_silence(tmp_path: Path, damage: object, word: str) -> None:
    """A new root would cut off every node, so half a root is an error that names the file."""
    authority(tmp_path)
    assert callable(damage)
    damage(tmp_path / "ca")
    with pytest.raises(CaBroken, match=word):
        authority(tmp_path)


def test_an_expired_root_is_an_error_that_names_the_clock(tmp_path: Path) -> None:
    """The clock is the likelier culprit."""
    authority(tmp_path)
    late = Clock()
    late.now += 3651 * DAY
    with pytest.raises(CaBroken, match=r"expired at .*check this host's clock"):
        authority(tmp_path, late)


def test_what_a_workload_certificate_says(tmp_path: Path) -> None:
    """Istio's form: empty subject, one critical URI SAN, client and server, not a CA, 127 random bits of serial."""
    issued = authority(tmp_path).sign(request(), WEB, DAY)
    leaf = x509.load_pem_x509_certificate(issued.chain[0].encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.critical
    assert [name.value for name in names.value] == [str(WEB)]
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not list(leaf.subject)
    assert issued.serial.bit_length() == 127
    assert len(issued.chain) == 2
    assert x509.load_pem_x509_certificate(issued.chain[-1].encode()).subject == leaf.issuer


def test_what_the_certificate_of_a_host_says(tmp_path: Path) -> None:
    """All of its workloads but the revoked, for servers only; the ledger has it under the host's own entry."""
    ca = authority(tmp_path)
    db, gone = workload("db"), workload("gone")
    ca.revocations.revoke_identity(gone, "left", [])
    issued = ca.sign_inbound(request(), {WEB, gone, db}, DAY, "mesh2")
    assert issued.identity == inbound_identity(TRUST_DOMAIN, "mesh2")
    leaf = x509.load_pem_x509_certificate(issued.chain[0].encode())
    assert sans(issued.chain[0]) == [str(db), str(WEB)]
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert sans(ca.sign_inbound(request(), {WEB}, DAY, "mesh2").chain[0]) == [str(WEB)]
    assert issued.serial in [entry.serial for entry in ca.ledger.of_identity(db)]
    assert ca.ledger.of_identity(gone) == []
    with pytest.raises(IdentityRevoked, match="gone is revoked"):
        ca.sign_inbound(request(), {gone}, DAY, "mesh2")


def test_the_chain_is_what_our_agents_and_openssl_accept(tmp_path: Path) -> None:
    """Leaf first, roots last; a TLS context loads it and its root."""
    key, csr = new_key_and_csr(WEB)
    got = credentials(WEB, key, authority(tmp_path).sign(csr.decode(), WEB, DAY).chain)
    pair = tmp_path / "pair.pem"
    pair.write_bytes(got.key_pem + got.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    context.load_verify_locations(cadata=got.roots_pem.decode())


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, 7200), (-5, 7200), (3600, 3600), (10 * DAY, 7200), (30, 30), (7200, 7200)]
)
def test_lifetimes_are_cut_never_lengthened(tmp_path: Path, asked: float, granted: float) -> None:
    """Nothing asked, or too much, means the longest; NotBefore lies a tenth in the past, 120 s at most."""
    ca = authority(tmp_path, max_ttl=7200)
    leaf = x509.load_pem_x509_certificate(ca.sign(request(), WEB, asked).chain[0].encode())
    assert leaf.not_valid_after_utc.timestamp() == NOW + granted
    assert leaf.not_valid_before_utc.timestamp() == NOW - min(120, granted / 10)


def test_nodes_have_a_life_of_their_own(tmp_path: Path) -> None:
    """Short lives of workloads must not make hosts need new join tokens after every pause."""
    ca = authority(tmp_path, max_ttl=60)
    issued = ca.sign_node(request(), "mesh2")
    assert sans(issued.chain[0]) == ["spiffe://cluster.local/ns/hostmesh-nodes/sa/mesh2"]
    assert issued.not_after == NOW + 7 * DAY


def test_nothing_outlives_the_root(tmp_path: Path) -> None:
    """NotAfter is the root's at most."""
    clock = Clock()
    ca = authority(tmp_path, clock)
    clock.now += 3650 * DAY - 3600
    leaf = x509.load_pem_x509_certificate(ca.sign(request(), WEB, DAY).chain[0].encode())
    assert leaf.not_valid_after_utc == x509.load_pem_x509_certificate(ca.roots_pem).not_valid_after_utc


def test_what_is_not_signed(tmp_path: Path) -> None:
    """Too short a life, another trust domain, no request at all."""
    ca = authority(tmp_path)
    with pytest.raises(BadRequest, match="30 s at least, not 29 s"):
        ca.sign(request(), WEB, 29)
    with pytest.raises(BadRequest, match="cannot be read"):
        ca.sign("", WEB, DAY)
    with pytest.raises(ValueError, match="not of the trust domain"):
        ca.sign(request(), workload("web", trust_domain="evil.example"), DAY)


def test_the_servers_certificate_is_kept_until_half_of_its_life(tmp_path: Path) -> None:
    """Restarts use it again; time, other names and another root make a new one, always with stock ztunnel's name."""
    clock = Clock()
    ca = authority(tmp_path, clock)
    file = ca.server_file(["10.0.0.1", "fd00:0::1", "Mesh1.example."])
    first = file.path.read_text()
    assert sans(first) == ["10.0.0.1", "fd00::1", "mesh1.example", "istiod.istio-system.svc"]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.renew_at == pytest.approx(NOW + 15 * DAY, abs=120)
    names = ["10.0.0.1", "fd00::1", "mesh1.example"]
    assert ca.server_file(names).path.read_text() == first
    clock.now = file.renew_at
    second = ca.server_file(names).path.read_text()
    assert second != first
    ca.server_file(["10.0.0.2"])
    assert sans(file.path.read_text()) == ["10.0.0.2", "istiod.istio-system.svc"]
    file.path.write_text("damaged")
    assert sans(ca.server_file(["10.0.0.2"]).path.read_text()) == ["10.0.0.2", "istiod.istio-system.svc"]


def test_the_servers_certificate_is_no_clients(tmp_path: Path) -> None:
    """It cannot be used to call anybody as a node."""
    leaf = x509.load_pem_x509_certificate(authority(tmp_path).server_file([]).path.read_bytes())
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
