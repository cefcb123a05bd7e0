"""Rules for SSH public keys: lines as tools write them, and nothing that proves no host."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.ssh_key import BadSshKey, SshPublicKey, is_fingerprint

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
LINE = f"ssh-ed25519 {KEY}"


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        f"{LINE} root@mesh2\n",
        f"mesh2,10.0.0.2 {LINE}",
        f"@cert-authority *.example.org {LINE} comment",
        f" {LINE} ",
    ],
)
def test_a_key_is_found_in_every_kind_of_line(line: str) -> None:
    """`.pub` files and known_hosts alike; comments and names are no part of it."""
    key = SshPublicKey.parse(line)
    assert (key.algorithm, str(key)) == ("ssh-ed25519", LINE)
    assert is_fingerprint(key.fingerprint)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "holds no SSH public key"),
        ("ssh-ed25519", "holds no SSH public key|proves no host"),
        ("ssh-dss AAAAB3NzaC1kc3M=", "kind 'ssh-dss' proves no host"),
        ("ssh-ed25519 not!base64", "not base64"),
        (f"ssh-rsa {KEY}", "the line says ssh-rsa but the key is ssh-ed25519"),
        ("ssh-ed25519 AAAA", "cut short"),
    ],
)
def test_what_is_no_host_key(line: str, why: str) -> None:
    """Each with its reason."""
    with pytest.raises(BadSshKey, match=why):
        SshPublicKey.parse(line)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_refused(blob: bytes) -> None:
    """Nothing else is raised, and what is taken keeps its bytes."""
    try:
        key = SshPublicKey.from_blob(blob)
    except BadSshKey:
        return
    assert base64.b64decode(str(key).split()[1]) == blob


@pytest.mark.parametrize("text", ["", "SHA256:abc", "MD5:" + "a" * 43, "SHA256:" + "a" * 44, "x SHA256:" + "a" * 43])
def test_what_is_no_fingerprint(text: str) -> None:
    """Only what `ssh-keygen -l` prints."""
    assert not is_fingerprint(text)
