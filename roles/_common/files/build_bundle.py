"""Build what a host is given: one archive with hostmesh and its dependencies as wheels, and its units.

Runs on the Ansible controller, needs only the standard library. The version of the archive ends in a hash of everything
that is in it, so that changed sources are a new version and unchanged ones cost nothing. Prints one JSON object:
`{"version": ..., "archive": ..., "python": "3.11", "machine": "x86_64", "changed": bool}`.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

INSTALLERS = tuple(
    Path(__file__).parent / name for name in ("install.sh", "activate.sh", "remove-rules.sh", "hold-sockets.sh")
)
KEPT_BUNDLES = 4
IN_USE = 3600.0
"""Seconds for which an archive may be on its way to hosts after it was built or asked for."""
# What the build itself needs; the hosts install with the pip of the archive.
BUILD_TOOLS = ("pip>=24", "hatchling>=1.25", "mypy>=1.13", "setuptools>=70")
# The byte path is compiled, with the C compiler that two dependencies want as well; "0" leaves it to the interpreter.
COMPILE = os.environ.get("HOSTMESH_COMPILE", "1")


def main() -> int:
    """Build the archive if it is not in the cache; print where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="the repository or the installed collection")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--check", action="store_true", help="only say which version it would be")
    parser.add_argument("--python", metavar="3.X", help="what the hosts have; this interpreter's version by default")
    parser.add_argument("--interpreter", default="", help="one of that version, if it is in no usual place")
    options = parser.parse_args()
    python = options.python or python_version()
    project = tomllib.loads((options.source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = f"{project['version']}+{content_hash(options.source, python)}"
    archive = options.cache / "bundles" / f"hostmesh-{version}.tar"
    changed = not archive.exists()
    if not changed:
        archive.touch()
    # One that was built elsewhere needs no interpreter of the hosts' version here.
    if changed and options.python is not None:
        return build_by(options)
    if changed and not options.check:
        try:
            build_once(options.source, options.cache, project["dependencies"], archive)
        except subprocess.CalledProcessError as error:
            print(f"{' '.join(map(str, error.cmd))}\n{error.stdout}", file=sys.stderr)
            return 1
    found = {"version": version, "archive": str(archive), "python": python, "machine": platform.machine()}
    print(json.dumps({**found, "changed": changed}))
    return 0


def build_by(options: argparse.Namespace) -> int:
    """Let an interpreter of the hosts' version do it: wheels with C in them are built by the Python that loads them."""
    version = options.python
    usual = [f"/usr/bin/python{version}", shutil.which(f"python{version}"), sys.executable]
    looked = [options.interpreter] if options.interpreter else [path for path in usual if path]
    for interpreter in looked:
        if version_of(interpreter) == version:
            command = [interpreter, __file__, "--source", str(options.source.absolute())]
            command += ["--cache", str(options.cache.absolute()), *(["--check"] if options.check else [])]
            os.execv(interpreter, command)  # noqa: S606 - takes this process's place
    print(
        f"there is no Python {version} on the controller (looked at {', '.join(looked)}); set hostmesh_build_python to "
        "one, with its headers: from pyenv, uv, or a program that starts it in a container of the hosts' distribution",
        file=sys.stderr,
    )
    return 1


def version_of(interpreter: str) -> str:
    """What an interpreter says that it is; nothing if it is none, or one that only says what to install."""
    try:
        command = [interpreter, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def default_cache() -> Path:
    """Where archives are kept on the controller."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostmesh"


def python_version() -> str:
    """The interpreter that wheels are built for: the one that runs this."""
    return ".".join(platform.python_version_tuple()[:2])


def content_hash(source: Path, python: str) -> str:
    """A hash of everything that decides what is in the archive, wherever it lies."""
    digest = hashlib.sha256(f"{python} {platform.machine()} {COMPILE}".encode())
    for path in content(source):
        name = path.relative_to(source) if path.is_relative_to(source) else path.name
        digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def content(source: Path) -> Iterator[Path]:
    """The files that go into the archive, in one order."""
    yield from (Path(__file__), *INSTALLERS)
    yield from (source / name for name in ("pyproject.toml", "README.md", "LICENSE", "agent/hatch_build.py"))
    for folder in ("agent/hostmesh", "systemd"):
        yield from sorted(p for p in (source / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def build_once(source: Path, cache: Path, dependencies: list[str], archive: Path) -> None:
    """Build the archive, unless another run just did; remove old ones."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return
        python = build_environment(cache)
        wheels = dependency_wheels(python, cache, dependencies)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            work = Path(folder)
            say("building hostmesh (compiling takes a minute, once)")
            run(python, "-m", "hatchling", "build", "-t", "wheel", "-d", work, directory=source)
            pack(source, [*sorted(wheels.glob("*.whl")), *work.glob("*.whl")], work / "bundle.tar")
            (work / "bundle.tar").rename(archive)
        remove_old(archive.parent, time.time())


def remove_old(folder: Path, now: float) -> None:
    """Keep the newest archives, and what another run may be shipping: a mesh has one for each Python of its hosts."""
    for old in sorted(folder.glob("*.tar"), key=lambda path: path.stat().st_mtime)[:-KEPT_BUNDLES]:
        if now - old.stat().st_mtime > IN_USE:
            old.unlink()


def build_environment(cache: Path) -> Path:
    """A virtual environment with the build tools; returns its interpreter."""
    folder = cache / f"build-{python_version()}-{hashlib.sha256(' '.join(BUILD_TOOLS).encode()).hexdigest()[:6]}"
    python = folder / "bin" / "python"
    # Of another interpreter of this version there is nothing left if that is gone.
    if not (folder / ".complete").exists() or not python.exists():
        say("making an environment for builds (once)")
        venv.create(folder, clear=True, with_pip=True)
        run(python, "-m", "pip", "install", "--quiet", "--upgrade", *BUILD_TOOLS)
        (folder / ".complete").touch()
    return python


def dependency_wheels(python: Path, cache: Path, dependencies: list[str]) -> Path:
    """The folder with a wheel for every dependency, and for pip; built once per list of dependencies."""
    key = hashlib.sha256("\n".join([python_version(), platform.machine(), *sorted(dependencies)]).encode()).hexdigest()
    folder = cache / f"wheels-{key[:12]}"
    if not folder.exists():
        say("building wheels of what hostmesh depends on (once, about half a minute)")
        with tempfile.TemporaryDirectory(dir=cache) as work:
            run(python, "-m", "pip", "wheel", "--quiet", "--wheel-dir", work, "pip", *dependencies)
            shutil.copytree(work, folder.with_suffix(".new"), dirs_exist_ok=True)
            folder.with_suffix(".new").rename(folder)
    return folder


def pack(source: Path, wheels: list[Path], archive: Path) -> None:
    """Put wheels and units into one archive, with what they are, to the byte."""
    with tarfile.open(archive, "w") as tar:
        tar.add(source / "systemd", "systemd")
        for script in INSTALLERS[1:]:
            tar.add(script, script.name)
        add_text(tar, "requirements.txt", requirements(wheels))
        add_text(tar, "sbom.cdx.json", json.dumps(bill_of_materials(wheels), indent=2) + "\n")
        for wheel in wheels:
            tar.add(wheel, f"wheels/{wheel.name}")


def add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    """A file that is made here."""
    info = tarfile.TarInfo(name)
    info.size = len(text.encode())
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(text.encode()))


def requirements(wheels: list[Path]) -> str:
    """What pip is to install, locked by hash; pip itself is not installed."""
    lines = [f"{name}=={version} --hash=sha256:{digest}\n" for name, version, digest, _ in map(describe, wheels)]
    return "".join(line for line in sorted(lines) if not line.startswith("pip=="))


def bill_of_materials(wheels: list[Path]) -> dict[str, object]:
    """A CycloneDX SBOM of the archive (specification 1.5); hostmesh is its subject, the rest its components."""
    components = [component(wheel) for wheel in sorted(wheels)]
    subject = next((one for one in components if one["name"] == "hostmesh"), None)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {**subject, "type": "application"} if subject else {},
            "properties": [
                {"name": "python", "value": python_version()},
                {"name": "machine", "value": platform.machine()},
            ],
        },
        "components": [one for one in components if one is not subject],
    }


def component(wheel: Path) -> dict[str, object]:
    """One wheel as CycloneDX describes it."""
    name, version, digest, said = describe(wheel)
    license_ = said.get("License-Expression") or said.get("License") or ""
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    found: dict[str, object] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }
    if license_ and len(license_) < 100:
        found["licenses"] = [{"license": {"name": license_}}]
    return found


def describe(wheel: Path) -> tuple[str, str, str, Message]:
    """Name, version, hash, and all that a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        said = message_from_bytes(archive.read(metadata))
    return said["Name"], said["Version"], hashlib.sha256(wheel.read_bytes()).hexdigest(), said


def say(text: str) -> None:
    """Progress, beside the result."""
    print(f"bundle: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path, directory: Path | None = None) -> None:
    """Run a build step; what it says is only shown when it fails."""
    environment = {**os.environ, "HOSTMESH_COMPILE": COMPILE}
    output = subprocess.PIPE
    subprocess.run(
        command, check=True, cwd=directory, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True
    )


if __name__ == "__main__":
    sys.exit(main())
