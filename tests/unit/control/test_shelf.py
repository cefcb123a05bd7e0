"""An authority in shared records: private keys unreadable without the key, changes only of what was seen."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.mesh import TRUST_DOMAIN
from tests.support.records import records, unwritable

from hostmesh.control.own_root import OwnRoot
from hostmesh.control.pem_files import CaBroken
from hostmesh.control.records import Records
from hostmesh.control.rotation import Phase
from hostmesh.control.shelf import Overtaken, RecordShelf, read_encryption_key

NOW = 1_800_000_000.0
KEY = bytes(range(32))


def root(shared: Records, directory: Path, key: bytes = KEY) -> OwnRoot:
    directory.mkdir(exist_ok=True)
    return OwnRoot(RecordShelf(shared, key), directory / "root-cert.pem", TRUST_DOMAIN, lambda: NOW)


def test_control_planes_share_one_root(tmp_path: Path) -> None:
    """The second finds that of the first, and hands it out as a file too."""
    shared = records(tmp_path)
    first = root(shared, tmp_path / "a").load()
    assert root(shared, tmp_path / "b").load() == first
    assert (tmp_path / "a" / "root-cert.pem").read_bytes() == (tmp_path / "b" / "root-cert.pem").read_bytes()


def test_a_rotation_is_followed_step_by_step(tmp_path: Path) -> None:
    """Whoever takes the step, the other sees that there is news, and loads the same."""
    shared = records(tmp_path)
    one, other = root(shared, tmp_path / "a"), root(shared, tmp_path / "b")
    material = one.load()
    other.load()
    assert not other.has_news()
    material = one.start(material)
    assert other.has_news()
    assert other.load() == material
    assert not other.has_news()
    assert material.rotation is not None
    switched = other.move(material, replace(material.rotation, phase=Phase.SWITCHED))
    assert one.load() == switched
    finished = one.finish(switched)
    assert other.load() == finished
    assert finished.roots == (switched.signer.certificate,)
    assert sorted(shared.under("ca/")) == ["ca/cross-cert.pem", "ca/root-cert.pem", "ca/root-key.pem"]


def test_a_step_from_an_old_view_is_not_taken(tmp_path: Path) -> None:
    """Two operators at two control planes: one rotation begins."""
    shared = records(tmp_path)
    one, other = root(shared, tmp_path / "a"), root(shared, tmp_path / "b")
    material = one.load()
    other.load()
    one.start(material)
    with pytest.raises(Overtaken, match="another control plane changes the authority now; try again"):
        other.start(material)
    assert other.load() == one.load()


def test_private_keys_are_encrypted(tmp_path: Path) -> None:
    """Who has the store, or another mesh's key, cannot sign; nor does one record stand for another."""
    shared = records(tmp_path)
    root(shared, tmp_path / "a").load()
    sealed = shared.under("ca/")["ca/root-key.pem"].value
    assert sealed.startswith("aes256gcm:")
    assert "PRIVATE" not in sealed
    with pytest.raises(CaBroken, match=r"root-key.pem: cannot be decrypted; store.etcd.encryption_key_file"):
        root(shared, tmp_path / "b", bytes(32)).load()
    shared.commit({"ca/next-key.pem": sealed})
    with pytest.raises(CaBroken, match=r"next-key.pem: cannot be decrypted"):
        RecordShelf(shared, KEY).read("next-key.pem")


def test_what_cannot_be_written_has_not_happened(tmp_path: Path) -> None:
    """The old root goes on."""
    shared = records(tmp_path)
    one = root(shared, tmp_path / "a")
    material = one.load()
    with unwritable(tmp_path), pytest.raises(CaBroken):
        one.start(material)
    assert one.load() == material


def test_the_encryption_key_is_checked(tmp_path: Path) -> None:
    """With a way to make one."""
    path = tmp_path / "store.key"
    for text in (None, "", "x", base64.b64encode(bytes(16)).decode()):
        if text is not None:
            path.write_text(text)
        with pytest.raises(CaBroken, match=r"store.key: is .*; make one with `openssl rand -base64 32`"):
            read_encryption_key(path)
    path.write_text(base64.b64encode(KEY).decode() + "\n")
    assert read_encryption_key(path) == KEY
