"""The module that looks at a host: what it says of SSH host keys."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.host_keys import HostKeys
from tests.support.scripts import plugin

from hostmesh.wire.ssh_key import SshPublicKey


@pytest.fixture
def module() -> ModuleType:
    return plugin("modules/host_info.py")


def test_host_keys_are_what_the_control_plane_takes(module: ModuleType, tmp_path: Path) -> None:
    """Without comments, ed25519 first; kinds that are missing are passed over, others are none of ours."""
    ed25519, ecdsa = HostKeys().public
    (tmp_path / "ssh_host_ecdsa_key.pub").write_text(f"{ecdsa} root@mesh2\n")
    (tmp_path / "ssh_host_ed25519_key.pub").write_text(f"{ed25519} root@mesh2\n")
    (tmp_path / "ssh_host_dsa_key.pub").write_text("ssh-dss AAAA\n")
    lines = module.host_keys(tmp_path)
    assert [SshPublicKey.parse(line) for line in lines] == [ed25519, ecdsa]
    assert module.host_keys(tmp_path / "missing") == []


@dataclass
class Paths:
    """What the module asks Ansible for programs."""

    there: dict[str, str]

    def get_bin_path(self, name: str) -> str | None:
        return self.there.get(name)


@pytest.mark.parametrize(
    ("own", "there", "found"),
    [
        ((3, 11), {"python3.13": "/usr/bin/python3.13"}, ("3.11", sys.executable)),
        ((3, 10), {"python3.11": "/usr/bin/python3.11"}, ("3.11", "/usr/bin/python3.11")),
        ((3, 9), {"python3.11": "/a", "python3.12": "/b"}, ("3.12", "/b")),
        ((3, 9), {}, ("3.9", sys.executable)),
    ],
)
def test_hostmesh_runs_by_the_python_of_ansible_or_a_newer_one_beside_it(
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    own: tuple[int, int],
    there: dict[str, str],
    found: tuple[str, str],
) -> None:
    """Ubuntu 22.04 has 3.10 and RHEL 9 has 3.9 for its own programs; both have a package with 3.11."""
    monkeypatch.setattr(module.sys, "version_info", own)
    assert module.interpreter(Paths(there)) == found


def test_comments_of_keys_may_be_in_any_language(module: ModuleType, tmp_path: Path) -> None:
    """They are the user and host that made the key, or what somebody wrote; a file without a key is passed over."""
    ed25519, _ = HostKeys().public
    (tmp_path / "ssh_host_ed25519_key.pub").write_text(f"{ed25519} root@m\u00fcnchen\n", encoding="utf-8")
    (tmp_path / "ssh_host_ecdsa_key.pub").write_text("")
    assert module.host_keys(tmp_path) == [str(ed25519)]
