"""The root's files through a rotation, with a crash after every write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.mesh import TRUST_DOMAIN

from hostmesh.control import own_root
from hostmesh.control.issue import key_id
from hostmesh.control.material import Material
from hostmesh.control.own_root import OwnRoot
from hostmesh.control.pem_files import CaBroken, issued_by
from hostmesh.control.rotation import Phase
from hostmesh.control.shelf import DirectoryShelf

NOW = 1_800_000_000.0


def root(directory: Path) -> OwnRoot:
    return OwnRoot(DirectoryShelf(directory), directory / "root-cert.pem", TRUST_DOMAIN, lambda: NOW)


def ids(material: Material) -> list[bytes]:
    return [key_id(one) for one in material.roots]


def to(files: OwnRoot, material: Material, phase: Phase) -> Material:
    assert material.rotation is not None
    return files.move(material, replace(material.rotation, phase=phase, changed=NOW))


def test_a_rotation_from_start_to_finish(tmp_path: Path) -> None:
    """Who signs and who is trusted in each phase, also after a restart; hosts get all roots in one file."""
    files = root(tmp_path)
    before = files.load()
    overlap = files.start(before)
    (old,), (first, new) = ids(before), ids(overlap)
    assert (first, overlap.signer_id) == (old, old)
    assert overlap.roots[0].subject != overlap.roots[1].subject
    switched = to(files, overlap, Phase.SWITCHED)
    assert (ids(switched), switched.signer_id) == ([new, old], new)
    reverted = to(files, switched, Phase.REVERTED)
    assert (ids(reverted), reverted.signer_id) == ([old, new], old)
    again = to(files, reverted, Phase.SWITCHED)
    assert again == switched == root(tmp_path).load()
    assert x509.load_pem_x509_certificates(files.path.read_bytes()) == list(switched.roots)
    after = files.finish(switched)
    assert (ids(after), after.signer_id, after.rotation) == ([new], new, None)
    assert root(tmp_path).load() == after
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cross-cert.pem", "root-cert.pem", "root-key.pem"]
    assert (tmp_path / "root-key.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("phase", [Phase.OVERLAP, Phase.REVERTED])
def test_giving_up_leaves_no_trace(tmp_path: Path, phase: Phase) -> None:
    """The old root stays, the new one and its key are gone."""
    files = root(tmp_path)
    before = files.load()
    going = files.start(before)
    if phase is Phase.REVERTED:
        going = to(files, to(files, going, Phase.SWITCHED), Phase.REVERTED)
    assert ids(files.finish(going)) == ids(before) == ids(root(tmp_path).load())
    assert not list(tmp_path.glob("next-*"))


def test_a_late_host_that_knows_the_old_root_only_can_follow(tmp_path: Path) -> None:
    """The control plane shows its root as certified by the former one."""
    files = root(tmp_path)
    before = files.load()
    after = files.finish(to(files, files.start(before), Phase.SWITCHED))
    (cross,) = after.server_chain
    assert issued_by(cross, before.signer.certificate)
    assert cross.public_key() == after.signer.certificate.public_key()
    assert before.server_chain == ()


class Crash(Exception):
    """The power goes."""


STEPS: list[tuple[str, Callable[[OwnRoot, Material], Material], set[str]]] = [
    ("start", lambda files, material: files.start(material), {"before", "after"}),
    ("switch", lambda files, material: to(files, material, Phase.SWITCHED), {"before", "after"}),
    ("finish", lambda files, material: files.finish(material), {"before", "after"}),
]


@pytest.mark.parametrize("step", ["start", "switch", "finish"])
@pytest.mark.parametrize("survives", range(6))
def test_a_crash_leaves_either_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, survives: int) -> None:
    """After any number of writes: the next start finds the state before the step or the one behind it, whole."""
    directory = tmp_path / "ca"
    directory.mkdir()
    files = root(directory)
    material = files.load()
    for name, act, _ in STEPS:
        if name == step:
            break
        material = act(files, material)
    left = [survives]
    write, unlink, rename = own_root.write, Path.unlink, Path.replace

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            if not left[0]:
                raise Crash
            left[0] -= 1
            return real(*args, **named)

        return call

    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    with monkeypatch.context() as patched:
        patched.setattr(own_root, "write", counted(write))
        patched.setattr(Path, "unlink", counted(unlink))
        patched.setattr(Path, "replace", counted(rename))
        act = next(act for name, act, _ in STEPS if name == step)
        try:
            after: Material | None = act(files, material)
        except Crash:
            after = None
    found = root(directory).load()
    if after is not None:
        assert found == after
    elif step == "switch":
        assert found.rotation is not None
        assert found.rotation.phase in (Phase.OVERLAP, Phase.SWITCHED)
        assert set(ids(found)) == set(ids(material))
    elif found.rotation is None and step == "start":
        assert ids(found) == ids(material)
        assert not list(directory.glob("next-*"))
    elif step == "start":
        assert (found.rotation is not None, found.signer_id) == (True, material.signer_id)
    elif found.rotation is None:
        assert ids(found) == [material.signer_id]
    else:
        assert found == material
    assert x509.load_pem_x509_certificates((directory / "root-cert.pem").read_bytes()) == list(found.roots)


def test_half_a_rotation_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """Nobody guesses which root signs."""
    files = root(tmp_path)
    files.start(files.load())
    for name, words in (("next-cert.pem", "is missing during a rotation"), ("rotation.json", "is damaged")):
        kept = (tmp_path / name).read_bytes()
        if name == "rotation.json":
            (tmp_path / name).write_text("{}")
        else:
            (tmp_path / name).unlink()
        with pytest.raises(CaBroken, match=f"{name}: {words}"):
            root(tmp_path).load()
        (tmp_path / name).write_bytes(kept)
