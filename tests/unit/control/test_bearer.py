"""Rules of bearer tokens: signed here, for this audience, in time, for one service account."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from joserfc import jwk, jwt

from hostmesh.control.bearer import AUDIENCE, BadBearer, BearerTokens
from hostmesh.control.shelf import DirectoryShelf
from hostmesh.model.identity import Identity

NOW = 1_000_000.0
WEB = Identity("cluster.local", "default", "web")


def tokens(directory: Path, now: float = NOW) -> BearerTokens:
    return BearerTokens(DirectoryShelf(directory), "cluster.local", lambda: now)


def test_a_token_stands_for_its_service_account(tmp_path: Path) -> None:
    """Until it expires, and over a restart of the control plane."""
    minted = tokens(tmp_path).mint("default", "web", 600)
    assert tokens(tmp_path).judge(minted) == (WEB, NOW + 600)
    assert (tmp_path / "jwt-key.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("at", "words"), [(661, "expired 661 s ago"), (-61, "good only in 61 s by this control")])
def test_clocks_are_named(tmp_path: Path, at: float, words: str) -> None:
    """What is late or early by more than a minute is refused, and the text says by how much."""
    minted = tokens(tmp_path).mint("default", "web", 600 if at < 0 else 60)
    late = NOW + at + (60 if at > 0 else 0)
    with pytest.raises(BadBearer, match=words):
        tokens(tmp_path, late).judge(minted)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"aud": ["other"]}, "for the audience"),
        ({"aud": None}, "for the audience"),
        ({"iss": "https://elsewhere"}, "was issued by 'https://elsewhere'"),
        ({"sub": "web"}, "names no service account"),
        ({"sub": "system:serviceaccount::web"}, "names no service account"),
        ({"exp": None}, "does not say"),
        ({"exp": "tomorrow"}, "does not say"),
    ],
)
def test_claims(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    """Each of them decides, even if the signature is right."""
    ours = tokens(tmp_path)
    claims = jwt.decode(ours.mint("default", "web"), ours._key, algorithms=["ES256"]).claims
    forged = jwt.encode({"alg": "ES256"}, {**claims, **changes}, ours._key)
    with pytest.raises(BadBearer, match=words):
        ours.judge(forged)


def test_only_our_signature_counts(tmp_path: Path) -> None:
    """Not another key's, not none, not one that takes the public key for a secret, and no garbage."""
    ours = tokens(tmp_path)
    claims = jwt.decode(ours.mint("default", "web"), ours._key, algorithms=["ES256"]).claims
    other = jwt.encode({"alg": "ES256"}, claims, jwk.ECKey.generate_key("P-256"))
    confused = jwt.encode({"alg": "HS256"}, claims, jwk.OctKey.import_key(json.dumps(ours.jwks())))
    unsigned = "eyJhbGciOiJub25lIn0." + ours.mint("default", "web").split(".")[1] + "."
    for token in (other, confused, unsigned, "", "a.b.c", "x" * 9000):
        with pytest.raises(BadBearer):
            ours.judge(token)


def test_others_can_verify_with_the_key_set(tmp_path: Path) -> None:
    """It holds the public key only, named as the tokens name it."""
    ours = tokens(tmp_path)
    [public] = ours.jwks()["keys"]
    assert "d" not in public
    verified = jwt.decode(ours.mint("default", "web"), jwk.KeySet.import_key_set(ours.jwks()), algorithms=["ES256"])
    assert verified.header["kid"] == public["kid"]
    assert verified.claims["aud"] == [AUDIENCE]


@pytest.mark.parametrize(
    ("namespace", "name", "ttl"), [("a", "b", 59), ("a", "b", 1e9), ("", "b", 60), ("a", "b:c", 60)]
)
def test_what_is_not_minted(tmp_path: Path, namespace: str, name: str, ttl: float) -> None:
    """Too short, too long, and names that could be read as others."""
    with pytest.raises(ValueError, match=r"bearer token|is no"):
        tokens(tmp_path).mint(namespace, name, ttl)
