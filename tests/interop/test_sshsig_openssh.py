"""OpenSSH's own ssh-keygen checks our signatures, and we check its."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from hostmesh.wire.ssh_key import SshPublicKey
from hostmesh.wire.sshsig import load_private_key, public_part, sign, verify

pytestmark = pytest.mark.interop

NAMESPACE = "hostmesh-enrolment"
MESSAGE = b"hostmesh enrolment 1\n"
ARMOUR = "-----{} SSH SIGNATURE-----"
each_kind = pytest.mark.parametrize(
    "kind", [["ed25519"], ["ecdsa", "-b", "256"], ["ecdsa", "-b", "521"], ["rsa", "-b", "3072"]], ids=" ".join
)


def keygen(*arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(["ssh-keygen", *map(str, arguments)], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout.decode()


@pytest.fixture
def key(tmp_path: Path, kind: list[str]) -> Path:
    path = tmp_path / "key"
    keygen("-q", "-N", "", "-C", "root@mesh2", "-t", *kind, "-f", path)
    return path


@each_kind
def test_openssh_checks_ours(key: Path, tmp_path: Path) -> None:
    """`ssh-keygen -Y verify` finds the signature good."""
    blob = sign(load_private_key(key.read_bytes()), NAMESPACE, MESSAGE)
    armoured = [ARMOUR.format("BEGIN"), base64.encodebytes(blob).decode().strip(), ARMOUR.format("END"), ""]
    (tmp_path / "sig").write_text("\n".join(armoured))
    (tmp_path / "signers").write_text(f"mesh2 {key.with_suffix('.pub').read_text()}")
    arguments = ["-Y", "verify", "-f", tmp_path / "signers", "-I", "mesh2", "-n", NAMESPACE, "-s", tmp_path / "sig"]
    assert "Good" in keygen(*arguments, stdin=MESSAGE)


@each_kind
def test_we_check_openssh_s(key: Path, tmp_path: Path) -> None:
    """`ssh-keygen -Y sign` makes what we accept; public key and fingerprint are read as OpenSSH reads them."""
    (tmp_path / "message").write_bytes(MESSAGE)
    keygen("-q", "-Y", "sign", "-f", key, "-n", NAMESPACE, tmp_path / "message")
    lines = (tmp_path / "message.sig").read_text().splitlines()
    public = SshPublicKey.parse(key.with_suffix(".pub").read_text())
    assert verify(base64.b64decode("".join(lines[1:-1])), NAMESPACE, MESSAGE) == public
    assert public == public_part(load_private_key(key.read_bytes()))
    assert keygen("-l", "-f", key).split()[1] == public.fingerprint
