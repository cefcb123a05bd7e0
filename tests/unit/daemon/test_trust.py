"""What a host makes of trust bundles: for its workers, its own certificates, and its next connection."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.pki import ALICE, BOB, HOUR, Authority

from hostmesh.daemon.messages import read_trust
from hostmesh.daemon.trust import REVOKED, Trust
from hostmesh.model.identity import Credentials, Identity
from hostmesh.model.node import inbound_identity
from hostmesh.model.trust import TrustBundle
from hostmesh.rpc.roots import Roots
from hostmesh.wire.x509 import split_pem
from hostmesh.xds.codec import encode_trust

OLD, NEW = Authority("old"), Authority("new")


@dataclass
class Held:
    """Stands for the secret manager."""

    credentials: list[Credentials]
    discarded: list[tuple[Identity, str]] = field(default_factory=list)
    renewed: list[tuple[Identity, float]] = field(default_factory=list)

    def available(self) -> list[Credentials]:
        return self.credentials

    def discard(self, identity: Identity, reason: str) -> None:
        self.discarded.append((identity, reason))

    def renew_within(self, identity: Identity, seconds: float) -> None:
        self.renewed.append((identity, seconds))


def bundle(*roots: Authority, signer: bytes = b"", revoked: Collection[Credentials] = ()) -> bytes:
    crls = [x509.load_pem_x509_crl(roots[0].crl_pem(*revoked))] if revoked else []
    return encode_trust("cluster.local", [root.certificate for root in roots], crls=crls, signer=signer)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    given = tmp_path / "root-cert.pem"
    given.write_bytes(OLD.pem)
    return Trust(Roots(given, tmp_path / "roots.json"))


def told(trust: Trust) -> TrustBundle:
    (message,) = trust.messages()
    return read_trust(message.trust)


def roots(trust: Trust) -> set[bytes]:
    return set(split_pem(told(trust).roots_pem))


def test_without_a_bundle_certificates_bring_their_roots(trust: Trust) -> None:
    """Other control planes: workers are told nothing, nothing is revoked or outdated."""
    held = Held([OLD.issue(ALICE)])
    assert list(trust.messages()) == []
    assert not trust.learn(held.credentials[0])
    trust.review(held)
    assert (held.discarded, held.renewed) == ([], [])


def test_a_bundle_is_handed_on_and_kept(trust: Trust, tmp_path: Path) -> None:
    """Roots and revocations for the workers; the roots for the next connection to the control plane."""
    alice = OLD.issue(ALICE)
    trust.take(bundle(OLD, NEW, revoked=[alice]))
    assert roots(trust) == {OLD.pem, NEW.pem}
    assert told(trust).revoked == {(OLD.name.public_bytes(), alice.serial)}
    assert Roots(tmp_path / "root-cert.pem", tmp_path / "roots.json").pem().encode() == OLD.pem + NEW.pem


def test_what_is_revoked_is_discarded(trust: Trust) -> None:
    """Others stay."""
    held = Held([OLD.issue(ALICE), OLD.issue(BOB)])
    trust.take(bundle(OLD, revoked=held.credentials[:1]))
    trust.review(held)
    assert held.discarded == [(ALICE, REVOKED)]
    assert held.renewed == []


def test_a_certificate_of_several_is_revoked_with_any_of_them(trust: Trust) -> None:
    """What it is kept as names nobody."""
    shared = OLD.issue(inbound_identity("cluster.local", "host1"), uris=(str(ALICE), str(BOB)))
    trust.take(encode_trust("cluster.local", [OLD.certificate], revoked_identities=[BOB]))
    assert trust.revokes(shared)
    assert not trust.revokes(OLD.issue(ALICE))


def test_what_another_authority_signed_is_replaced_in_good_time(trust: Trust) -> None:
    """Over a tenth of its life, so that the old root can go soon and hosts do not all come at once."""
    new_id = NEW.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    held = Held([OLD.issue(ALICE), NEW.issue(BOB)])
    trust.take(bundle(NEW, OLD, signer=new_id))
    trust.review(held)
    ((identity, spread),) = held.renewed
    assert identity == ALICE
    assert spread == pytest.approx((HOUR + 60) / 10, abs=1)


def test_a_certificate_may_be_quicker_than_the_bundle(trust: Trust) -> None:
    """Its new root counts at once: the authority may sign with it before the next push is here."""
    trust.take(bundle(OLD))
    early = OLD.issue(ALICE, roots=OLD.pem + NEW.pem)
    assert trust.learn(early)
    assert not trust.learn(early)
    assert roots(trust) == {OLD.pem, NEW.pem}


def test_a_dismissed_root_does_not_come_back_with_a_late_certificate(trust: Trust) -> None:
    """Only a bundle can bring it back."""
    trust.take(bundle(OLD, NEW))
    trust.take(bundle(NEW))
    assert not trust.learn(OLD.issue(ALICE, roots=OLD.pem + NEW.pem))
    assert roots(trust) == {NEW.pem}
    trust.take(bundle(NEW, OLD))
    assert roots(trust) == {NEW.pem, OLD.pem}
