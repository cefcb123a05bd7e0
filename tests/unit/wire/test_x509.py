"""Certificates and requests of workloads."""

from __future__ import annotations

import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pki import ALICE, BOB, HOUR, Authority, now

from hostmesh.model.identity import Identity
from hostmesh.wire.x509 import (
    BadCertificate,
    certificate_key,
    credentials,
    expires_at,
    new_key_and_csr,
    spiffe_identities,
    split_pem,
)

ROOT = Authority()


def leaf_der(chain_pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(chain_pem).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("uris", "identities"),
    [
        ([str(ALICE)], (ALICE,)),
        ([str(ALICE), str(BOB)], (ALICE, BOB)),
        (["https://example.com/", str(BOB)], (BOB,)),
        (["spiffe://cluster.local/ns/default"], ()),
        (["spiffe://cluster.local/ns/default/sa/alice/"], ()),
        ([], ()),
    ],
)
def test_identities_are_the_uri_sans_in_istio_form_in_their_order(
    uris: list[str], identities: tuple[Identity, ...]
) -> None:
    """SAN URIs that are not SPIFFE in Istio's form are passed over; without a SAN nobody is named."""
    assert spiffe_identities(leaf_der(ROOT.issue(uris=uris).chain_pem)) == identities


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_refused(data: bytes) -> None:
    """Whatever a peer sent, the answer is a refusal with a reason, never another error."""
    with pytest.raises(BadCertificate, match="peer certificate cannot be read"):
        spiffe_identities(data)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.data())
def test_a_damaged_certificate_never_ends_in_another_error(data: st.DataObject) -> None:
    """One flipped byte: read or refused."""
    der = bytearray(LEAF)
    der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BadCertificate):
        assert isinstance(spiffe_identities(bytes(der)), tuple)


LEAF = leaf_der(ROOT.issue().chain_pem)


def test_an_issuer_of_a_strange_kind_is_refused() -> None:
    """A name made of a bit string is a certificate's right, and more than the library behind can tell."""
    der = leaf_der(ROOT.issue().chain_pem)
    text, bits = b"\x0c\x09test root", b"\x03\x09\x00est root"
    assert text in der
    with pytest.raises(BadCertificate):
        certificate_key(der.replace(text, bits))


def test_the_end_of_a_certificate_is_told_in_seconds() -> None:
    """As the credentials of its owner say it."""
    issued = ROOT.issue()
    assert expires_at(leaf_der(issued.chain_pem)) == issued.not_after
    with pytest.raises(BadCertificate, match="peer certificate cannot be read"):
        expires_at(b"junk")


def test_a_request_has_an_empty_subject_and_one_critical_san() -> None:
    """Istio's CA protocol: empty subject, critical URI SAN, P-256, SHA-256."""
    key_pem, csr_pem = new_key_and_csr(ALICE)
    request = x509.load_pem_x509_csr(csr_pem)
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert request.public_key() == key.public_key()
    assert request.is_signature_valid
    assert isinstance(request.signature_hash_algorithm, hashes.SHA256)
    assert list(request.subject) == []
    (extension,) = request.extensions
    assert extension.critical
    assert list(extension.value) == [x509.UniformResourceIdentifier(str(ALICE))]


def test_keys_are_fresh() -> None:
    """Each request has its own key."""
    assert new_key_and_csr(ALICE)[0] != new_key_and_csr(ALICE)[0]


def test_credentials_split_the_answer_into_chain_and_roots() -> None:
    """First leaf, last roots (all of them), of those between the first certificate each."""
    intermediate = ROOT.intermediate()
    key_pem, csr_pem = new_key_and_csr(ALICE)
    leaf, middle, root = intermediate.sign_request(csr_pem.decode())
    other_root = Authority("other").pem.decode()
    got = credentials(ALICE, key_pem, [leaf, middle + other_root, root + other_root])
    assert split_pem(got.chain_pem) == split_pem((leaf + middle).encode())
    assert split_pem(got.roots_pem) == split_pem((root + other_root).encode())
    certificate = x509.load_pem_x509_certificate(leaf.encode())
    assert got.serial == certificate.serial_number
    assert got.not_after - now() == pytest.approx(HOUR, abs=5)
    assert got.not_before == certificate.not_valid_before_utc.timestamp()
    assert got.identity == ALICE


KEY, CSR = new_key_and_csr(ALICE)
ANSWER = ROOT.sign_request(CSR.decode())


@pytest.mark.parametrize(
    ("identity", "key", "chain", "reason"),
    [
        (ALICE, KEY, [], f"chain returned from CA is empty for: {ALICE}"),
        (ALICE, KEY, ANSWER[:1], "no root certificate present"),
        (ALICE, KEY, [ANSWER[0], ""], "no root certificate present"),
        (ALICE, KEY, ["", ANSWER[1]], f"element 1 of the chain returned from CA for {ALICE} is no certificate"),
        (
            ALICE,
            KEY,
            [ANSWER[0], "junk", ANSWER[1]],
            f"element 2 of the chain returned from CA for {ALICE} is no certificate",
        ),
        (BOB, KEY, ANSWER, f"did not find expected SAN: {BOB}"),
        (ALICE, new_key_and_csr(ALICE)[0], ANSWER, "is not for the key that was sent"),
        (
            ALICE,
            KEY,
            [ANSWER[0], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
            "cannot be read",
        ),
    ],
)
def test_answers_that_cannot_be_used_are_refused_with_the_reason(
    identity: Identity, key: bytes, chain: list[str], reason: str
) -> None:
    """Nothing half-usable is kept: the caller stays with what it had."""
    with pytest.raises(BadCertificate) as refusal:
        credentials(identity, key, chain)
    assert reason in str(refusal.value)


def test_the_san_is_not_compared_when_the_caller_says_so() -> None:
    """A dedicated proxy takes the identity that its token stands for."""
    assert credentials(BOB, KEY, ANSWER, check_san=False).identity == BOB


@given(st.lists(st.sampled_from([b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----", b"x", b"\n"])))
def test_split_pem_yields_whole_blocks_only(pieces: list[bytes]) -> None:
    """Each block begins with BEGIN, ends with END, and has no END inside."""
    for block in split_pem(b"".join(pieces)):
        assert block.startswith(b"-----BEGIN CERTIFICATE-----")
        assert block.endswith(b"-----END CERTIFICATE-----\n")
        assert block.count(b"-----END") == 1
