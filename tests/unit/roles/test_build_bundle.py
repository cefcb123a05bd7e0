"""The archive's version follows from what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from tests.support.scripts import script

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "roles" / "_common" / "files" / "build_bundle.py"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return script("roles/_common/files/build_bundle.py")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "agent" / "hostmesh").mkdir(parents=True)
    shutil.copy(ROOT / "agent" / "hatch_build.py", tmp_path / "agent")
    (tmp_path / "agent" / "hostmesh" / "__init__.py").write_text("")
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "hostmesh-agent.service").write_text("[Service]\n")
    return tmp_path


@pytest.mark.parametrize("changed", ["pyproject.toml", "agent/hostmesh/new.py", "systemd/hostmesh-agent.service"])
def test_changed_sources_are_another_version(build: ModuleType, source: Path, changed: str) -> None:
    """Anything that ends up on a host counts."""
    before = build.content_hash(source, "3.11")
    with (source / changed).open("a") as file:
        file.write("# changed\n")
    assert build.content_hash(source, "3.11") != before


def test_leftovers_of_a_run_are_not(build: ModuleType, source: Path) -> None:
    """Compiled modules and files beside the package do not make a version."""
    before = build.content_hash(source, "3.11")
    cache = source / "agent" / "hostmesh" / "__pycache__"
    cache.mkdir()
    (cache / "x.pyc").write_bytes(b"\0")
    (source / "notes.txt").write_text("remember")
    assert build.content_hash(source, "3.11") == before


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    """Two wheels, as pip makes them."""
    made = []
    for name, version in (("hostmesh", "1.2"), ("some_thing", "3.4")):
        wheel = tmp_path / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"
            archive.writestr(f"{name}-{version}.dist-info/METADATA", text)
        made.append(wheel)
    return made


def test_wheels_are_locked_by_hash(build: ModuleType, wheels: list[Path]) -> None:
    """As `pip install --require-hashes` wants it."""
    digests = [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels]
    assert build.requirements(wheels) == (
        f"hostmesh==1.2 --hash=sha256:{digests[0]}\nsome_thing==3.4 --hash=sha256:{digests[1]}\n"
    )


def test_the_archive_says_what_is_in_it(build: ModuleType, wheels: list[Path]) -> None:
    """CycloneDX: the subject, and each component with its purl, hash and licence."""
    bill = build.bill_of_materials(wheels)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/hostmesh@1.2"
    (found,) = bill["components"]
    assert found["purl"] == "pkg:pypi/some-thing@3.4"
    assert found["licenses"] == [{"license": {"name": "MIT"}}]
    assert found["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheels[1].read_bytes()).hexdigest()}]


def ask(source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as the role does."""
    command = [sys.executable, str(SCRIPT), "--source", str(source), "--check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_built_by_an_interpreter_of_the_hosts_version(source: Path, tmp_path: Path) -> None:
    """The one that was named takes over, whatever it is: here a program that starts this very Python."""
    own = ".".join(map(str, sys.version_info[:2]))
    program = tmp_path / "elsewhere"
    program.write_text(f'#!/bin/sh\necho started >> {tmp_path}/log\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    answer = json.loads(ask(source, "--python", own, "--interpreter", str(program)).stdout)
    assert answer == json.loads(ask(source, "--python", own).stdout)
    assert (tmp_path / "log").read_text() == "started\nstarted\n", "asked for its version, then run"


def test_a_version_that_the_controller_has_not_got_is_refused(source: Path) -> None:
    """With where it was looked for, and what to set."""
    refused = ask(source, "--python", "3.99")
    assert refused.returncode == 1
    assert "no Python 3.99 on the controller (looked at /usr/bin/python3.99, " in refused.stderr
    assert "set hostmesh_build_python" in refused.stderr


def test_what_was_built_elsewhere_is_taken_as_it_is(build: ModuleType, source: Path, tmp_path: Path) -> None:
    """The controller has neither that Python nor a network; other sources are another version, which it cannot make."""
    version = build.tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    archive = tmp_path / "bundles" / f"hostmesh-{version}+{build.content_hash(source, '3.99')}.tar"
    archive.parent.mkdir()
    archive.touch()
    answer = json.loads(ask(source, "--cache", str(tmp_path), "--python", "3.99").stdout)
    assert (answer["archive"], answer["python"], answer["changed"]) == (str(archive), "3.99", False)
    (source / "systemd" / "new.service").touch()
    assert ask(source, "--cache", str(tmp_path), "--python", "3.99").returncode == 1


def test_an_archive_that_is_on_its_way_is_not_removed(build: ModuleType, tmp_path: Path) -> None:
    """Hosts of several Pythons, and several runs at a time, have more archives than are kept afterwards."""
    for number in range(6):
        archive = tmp_path / f"{number}.tar"
        archive.touch()
        os.utime(archive, (number, number))
    build.remove_old(tmp_path, build.IN_USE)
    assert len(list(tmp_path.glob("*.tar"))) == 6
    build.remove_old(tmp_path, build.IN_USE + 6)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["2.tar", "3.tar", "4.tar", "5.tar"]
