"""An authority of the operator's own: read, refused with the file's name, followed while the control plane runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.mesh import TRUST_DOMAIN, workload
from tests.support.pki import Authority, key_pem
from tests.support.records import records

from hostmesh.control.ca import CaBroken, CertificateAuthority
from hostmesh.control.pem_files import issued_by
from hostmesh.wire.x509 import credentials, new_key_and_csr

WEB = workload("web")
DAY = 86400.0


class Plug:
    """The operator's hands."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.root = Authority("corporate root")
        self.middle = self.root.intermediate("corporate intermediate")
        self.own = self.middle.intermediate("mesh")
        self.put(self.own)

    def put(self, own: Authority, roots: bytes | None = None) -> None:
        self.write("ca-key.pem", key_pem(own.key))
        self.write("ca-cert.pem", own.pem)
        self.write("cert-chain.pem", own.intermediates_pem)
        self.write("root-cert.pem", roots or own.root_pem)

    def write(self, name: str, data: bytes) -> None:
        (self.directory / name).write_bytes(data)


@pytest.fixture
def plug(tmp_path: Path) -> Plug:
    return Plug(tmp_path / "ca")


def authority(plug: Plug) -> CertificateAuthority:
    return CertificateAuthority(plug.directory, TRUST_DOMAIN, records(plug.directory))


def test_leaves_carry_what_lies_below_the_root(plug: Plug) -> None:
    """Leaf, signer, intermediate, roots: Istio's order; OpenSSL's path; no root of our own is made."""
    key, csr = new_key_and_csr(WEB)
    ca = authority(plug)
    chain = ca.sign(csr.decode(), WEB, DAY).chain
    assert [element.encode() for element in chain[1:]] == [plug.own.pem, plug.middle.pem, plug.root.pem]
    got = credentials(WEB, key, chain)
    assert got.roots_pem == plug.root.pem
    leaf = x509.load_pem_x509_certificate(got.chain_pem)
    assert issued_by(leaf, plug.own.certificate)
    assert not (plug.directory / "root-key.pem").exists()
    server = x509.load_pem_x509_certificates(ca.server_file(["localhost"]).path.read_bytes())
    assert server[1:] == [plug.own.certificate, plug.middle.certificate]


def test_a_root_can_be_plugged_in_itself(tmp_path: Path) -> None:
    """Then leaves carry nothing between."""
    plug = Plug(tmp_path / "ca")
    plug.put(plug.root)
    plug.write("cert-chain.pem", plug.root.pem)
    chain = authority(plug).sign(new_key_and_csr(WEB)[1].decode(), WEB, DAY).chain
    assert [element.encode() for element in chain[1:]] == [plug.root.pem]


OTHER = Authority("other")

DAMAGES: list[tuple[str, Callable[[Plug], None], str]] = [
    ("no key", lambda plug: (plug.directory / "ca-key.pem").unlink(), "ca-key.pem: is missing"),
    ("no certificate", lambda plug: (plug.directory / "ca-cert.pem").unlink(), "ca-cert.pem: is missing"),
    ("no roots", lambda plug: (plug.directory / "root-cert.pem").unlink(), "root-cert.pem: is missing"),
    ("no chain", lambda plug: (plug.directory / "cert-chain.pem").unlink(), "root-cert.pem: no certificate in it has"),
    ("garbled key", lambda plug: plug.write("ca-key.pem", b"x"), "ca-key.pem: not a PEM private key"),
    (
        "other key",
        lambda plug: plug.write("ca-key.pem", key_pem(OTHER.key)),
        "ca-cert.pem: .* not belong to ca-key.pem",
    ),
    ("other root", lambda plug: plug.write("root-cert.pem", OTHER.pem), "root-cert.pem: no certificate in it has"),
    ("other chain", lambda plug: plug.write("cert-chain.pem", OTHER.pem), "cert-chain.pem: CN=other has not signed"),
    ("garbled chain", lambda plug: plug.write("cert-chain.pem", b"x"), "cert-chain.pem: not a usable CA certificate"),
]


@pytest.mark.parametrize(("damage", "words"), [(d, w) for _, d, w in DAMAGES], ids=[name for name, _, _ in DAMAGES])
def test_what_does_not_fit_is_refused_by_name(plug: Plug, damage: Callable[[Plug], None], words: str) -> None:
    """At the start it is an error; while running the last good one stays, and it is said once."""
    ca = authority(plug)
    before = ca.material
    damage(plug)
    with pytest.raises(CaBroken, match=words):
        ca.reload()
    assert not ca.reload()
    assert ca.material is before
    ca.sign(new_key_and_csr(WEB)[1].decode(), WEB, DAY)
    with pytest.raises(CaBroken, match=words):
        authority(plug)


def test_a_new_signer_below_the_same_root_is_used_at_once(plug: Plug) -> None:
    """A renewed intermediate needs nothing of the agents."""
    ca = authority(plug)
    assert not ca.reload()
    fresh = plug.root.intermediate("mesh, renewed")
    plug.put(fresh)
    assert ca.reload()
    leaf = x509.load_pem_x509_certificate(ca.sign(new_key_and_csr(WEB)[1].decode(), WEB, DAY).chain[0].encode())
    assert issued_by(leaf, fresh.certificate)


def test_a_new_root_goes_out_before_it_signs(plug: Plug) -> None:
    """In one go it would cut off every agent; root file first, signer second, old root last is the way."""
    ca = authority(plug)
    new = Authority("new root")
    signer = new.intermediate("mesh under the new root")
    plug.put(signer, new.pem + plug.root.pem)
    with pytest.raises(CaBroken, match="agents have not been told of; put the old and the new root"):
        ca.reload()
    plug.put(plug.own, plug.root.pem + new.pem)
    assert ca.reload()
    assert ca.roots_pem == plug.root.pem + new.pem
    plug.put(signer, new.pem + plug.root.pem)
    assert ca.reload()
    plug.write("root-cert.pem", new.pem)
    assert ca.reload()
    assert ca.roots_pem == new.pem


def test_an_authority_of_our_own_does_not_look_at_files(tmp_path: Path) -> None:
    """Only what was plugged in at the start is followed."""
    ca = CertificateAuthority(tmp_path / "ca", TRUST_DOMAIN, records(tmp_path))
    assert not ca.material.plugged
    assert not ca.reload()
