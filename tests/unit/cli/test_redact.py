"""Nothing that lets anybody act as somebody leaves the host."""

from __future__ import annotations

import base64
import json
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.support.records import records

from hostmesh.cli.redact import redact
from hostmesh.control.tokens import TokenStore

KEYS = [
    (ec.generate_private_key(ec.SECP256R1()), PrivateFormat.PKCS8),
    (ec.generate_private_key(ec.SECP256R1()), PrivateFormat.TraditionalOpenSSL),
    (rsa.generate_private_key(65537, 2048), PrivateFormat.PKCS8),
    (rsa.generate_private_key(65537, 2048), PrivateFormat.TraditionalOpenSSL),
    (ed25519.Ed25519PrivateKey.generate(), PrivateFormat.PKCS8),
    (ed25519.Ed25519PrivateKey.generate(), PrivateFormat.OpenSSH),
]
PEMS = [key.private_bytes(Encoding.PEM, form, NoEncryption()).decode() for key, form in KEYS]

WRITTEN = {
    "as it is": lambda pem: f"before\n{pem}after",
    "cut off": lambda pem: pem[:-40],
    "in JSON": lambda pem: json.dumps({"some": pem, "other": 1}),
    "indented in YAML": lambda pem: "some: |\n" + "".join(f"  {line}\n" for line in pem.splitlines()),
    "in base64": lambda pem: base64.b64encode(pem.encode()).decode(),
    "base64 in JSON": lambda pem: json.dumps({"pem": base64.b64encode(pem.encode()).decode()}),
}


@pytest.mark.parametrize("how", WRITTEN)
@pytest.mark.parametrize("pem", PEMS)
def test_no_line_of_a_private_key_stays(pem: str, how: str) -> None:
    """Whatever its kind and however it is written."""
    left = redact(WRITTEN[how](pem))
    lines = [line for line in pem.splitlines() if not line.startswith("-")]
    assert not [line for line in lines if line in left or base64.b64encode(line.encode()).decode()[4:-4] in left]


@pytest.mark.parametrize(("key", "form"), [KEYS[0], KEYS[2], KEYS[4], KEYS[1]])
def test_der_in_base64_is_recognised(key: ec.EllipticCurvePrivateKey, form: PrivateFormat) -> None:
    """As secrets stand in JSON documents."""
    der = base64.b64encode(key.private_bytes(Encoding.DER, form, NoEncryption())).decode()
    assert der not in redact(f'{{"something": "{der}"}}')


SECRETS = {
    "password": "password: {}",
    "JSON": '{{"apiKey": "{}"}}',
    "environment": "ETCD_PASSWORD={}",
    "header": "Authorization: Bearer {}",
    "URL": "https://user:{}@etcd.example.org:2379",
    "quoted": "client_secret = '{}'",
}


@given(value=st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=12, max_size=40))
@pytest.mark.parametrize("form", SECRETS)
def test_what_is_called_a_secret_is_one(form: str, value: str) -> None:
    """By the name of the setting, in any notation."""
    assert value not in redact(SECRETS[form].format(value))


def test_join_tokens_and_jwts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever they stand in a line."""
    token = TokenStore(records(tmp_path_factory.mktemp("tokens"))).mint("mesh1", 60.0)
    jwt = f"eyJhbGciOiJSUzI1NiJ9.{secrets.token_urlsafe(60)}.{secrets.token_urlsafe(64)}"
    left = redact(f"--token {token} and {jwt}, said the log")
    assert token.split(".")[1] not in left
    assert jwt.split(".")[2] not in left
    assert left.endswith("said the log")


UNTOUCHED = [
    "identity=spiffe://cluster.local/ns/prod/sa/web",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    '{"serialNumber": "340282366920938463463374607431768211455", "secretTtl": {"secs": 86400}}',
    "token: null",
    'tcp dport 15008 accept comment "0123456789abcdef"',
]


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_helps_stays(text: str) -> None:
    """Certificates, identities, settings."""
    assert redact(text) == text
