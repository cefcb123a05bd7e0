"""Revocation lists as other implementations read them: OpenSSL is the judge."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto
from tests.support.pki import ALICE, BOB, Authority

from hostmesh.control.crl import revocation_list
from hostmesh.control.issue import BACKDATE, Signer, key_id
from hostmesh.control.revocations import RevokedSerial

NOW = 1_800_000_000.0
ROOT = Authority("root")
SIGNER = Signer(ROOT.certificate, ROOT.key)
OWN = key_id(ROOT.certificate).hex()


def revoked(serial: int, issuer: str = OWN, reason: str = "unspecified") -> RevokedSerial:
    return RevokedSerial(serial, issuer, str(ALICE), reason, NOW, NOW + 100)


def test_what_a_list_says() -> None:
    """Its signer's serial numbers and those of unknown origin, reasons, number, times."""
    listed = [revoked(3, reason="keyCompromise"), revoked(2, ""), revoked(1, "another")]
    crl = revocation_list(SIGNER, listed, 7, NOW)
    assert [entry.serial_number for entry in crl] == [2, 3]
    assert crl.is_signature_valid(ROOT.key.public_key())
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    authority = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == key_id(ROOT.certificate)
    reasons = [[extension.value.reason for extension in entry.extensions] for entry in crl]
    assert reasons == [[], [x509.ReasonFlags.key_compromise]]
    assert crl.last_update_utc.timestamp() == NOW - BACKDATE
    assert crl.next_update_utc is not None
    assert crl.next_update_utc.timestamp() == NOW + 30 * 86400


def test_openssl_refuses_what_is_listed() -> None:
    """And accepts what is not."""
    alice, bob = ROOT.issue(ALICE), ROOT.issue(BOB)
    crl = revocation_list(SIGNER, [revoked(alice.serial)], 1, alice.not_before)
    store = crypto.X509Store()
    store.add_cert(crypto.X509.from_cryptography(ROOT.certificate))
    store.add_crl(x509.load_pem_x509_crl(crl.public_bytes(Encoding.PEM)))
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK)
    verdicts = []
    for credentials in (alice, bob):
        leaf = crypto.X509.from_cryptography(x509.load_pem_x509_certificate(credentials.chain_pem))
        try:
            crypto.X509StoreContext(store, leaf).verify_certificate()
            verdicts.append("good")
        except crypto.X509StoreContextError as error:
            verdicts.append(str(error))
    assert verdicts == ["certificate revoked", "good"]
