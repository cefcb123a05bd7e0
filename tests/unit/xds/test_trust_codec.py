"""The trust bundle's way over the wire, and what of it is refused."""

from __future__ import annotations

import pytest
from cryptography import x509
from tests.support.pki import ALICE, BOB, Authority

from hostmesh.wire.proto import trust_pb2 as pb
from hostmesh.xds.codec import Rejected, decode_trust, encode_trust

ROOT, OTHER = Authority("root"), Authority("other")


def crl(authority: Authority, *serials: int) -> x509.CertificateRevocationList:
    credentials = [authority.issue(ALICE, serial=serial) for serial in serials]
    return x509.load_pem_x509_crl(authority.crl_pem(*credentials))


def test_what_is_encoded_is_decoded() -> None:
    """Roots in order, serial numbers by their issuer, identities."""
    data = encode_trust(
        "cluster.local",
        [ROOT.certificate, OTHER.certificate],
        crls=[crl(ROOT, 1 << 127, 7), crl(OTHER, 7)],
        revoked_identities=[BOB, ALICE],
        signer=b"key",
    )
    bundle = decode_trust(data)
    assert bundle.roots_pem == ROOT.pem + OTHER.pem
    root, other = ROOT.name.public_bytes(), OTHER.name.public_bytes()
    assert bundle.revoked == {(root, 1 << 127), (root, 7), (other, 7)}
    assert bundle.revoked_identities == {ALICE, BOB}
    assert (bundle.trust_domain, bundle.signer) == ("cluster.local", b"key")


def test_an_authority_below_the_root_may_sign_the_list() -> None:
    """A plugged-in authority is often an intermediate."""
    below = ROOT.intermediate()
    data = encode_trust("td", [ROOT.certificate], crls=[crl(below, 5)], issuers=[below.certificate])
    assert decode_trust(data).revoked == {(below.name.public_bytes(), 5)}


FORGED = Authority("root")  # of the same name, with another key


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff", "not a TrustBundle"),
        (pb.TrustBundle(roots=[b"x"]).SerializeToString(), "without a trust domain"),
        (encode_trust("td", []), "without roots"),
        (pb.TrustBundle(trust_domain="td", roots=[b"x"]).SerializeToString(), "cannot be read"),
        (encode_trust("td", [ROOT.certificate], crls=[crl(OTHER, 1)]), "signed by no authority of the bundle"),
        (encode_trust("td", [ROOT.certificate], crls=[crl(FORGED, 1)]), "signed by no authority of the bundle"),
    ],
)
def test_nonsense_is_refused(data: bytes, reason: str) -> None:
    """The last good bundle stays; nobody can revoke in another's name."""
    with pytest.raises(Rejected, match=reason):
        decode_trust(data)


def test_a_revoked_identity_must_be_one() -> None:
    """A typo would revoke nobody."""
    root = pb.TrustBundle.FromString(encode_trust("td", [ROOT.certificate]))
    root.revoked_identities.append("spiffe://td/x")
    with pytest.raises(Rejected, match="revoked identity"):
        decode_trust(root.SerializeToString())


def test_the_bytes_depend_on_the_content_only() -> None:
    """They are hashed into the version, and equal content must not be sent again."""
    one = encode_trust("td", [ROOT.certificate], revoked_identities=[ALICE, BOB])
    assert one == encode_trust("td", [ROOT.certificate], revoked_identities=[BOB, ALICE])
