"""`python -m tools.sanity`: Ansible's own tests of collections, on this one as users install it, without its files.

ansible-test makes an environment for each test and fetches the script that puts pip there from a host of Ansible's; any
script of that name will do, and the interpreter brings a pip along.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".ansible" / "sanity"
IGNORED = ROOT / "tests" / "sanity" / "ignore-2.19.txt"
BOOTSTRAP = "import ensurepip\nensurepip.bootstrap()\n"
# ruff, yamllint and ansible-lint look at the same things with this project's settings.
SKIPPED = ("import", "pep8", "pslint", "pylint", "shellcheck", "yamllint")


def install(folder: Path) -> Path:
    """The collection from its tarball; where it is."""
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(folder), "HOME": str(folder)}
    galaxy = ["ansible-galaxy", "collection"]
    steps = (
        [*galaxy, "build", str(ROOT), "--output-path", str(folder)],
        [*galaxy, "install", "--offline", str(folder / "hostmesh-mesh.tar.gz"), "-p", str(folder)],
    )
    for step in steps:
        subprocess.run(step, check=True, env=environment, stdout=subprocess.DEVNULL, cwd=folder)
        for tarball in folder.glob("hostmesh-mesh-*.tar.gz"):
            tarball.rename(folder / "hostmesh-mesh.tar.gz")
    return folder / "ansible_collections" / "hostmesh" / "mesh"


def core() -> str:
    """The version of ansible-core as the files of ignored complaints are named by it."""
    said = subprocess.run(["ansible-test", "--version"], capture_output=True, text=True, check=True).stdout
    return ".".join(said.split()[-1].split(".")[:2])


def main() -> int:
    """Run what runs without a network but for the package index; the status of ansible-test."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "get_pip_24_2.py").write_text(BOOTSTRAP, encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        collection = install(Path(folder))
        shutil.rmtree(collection / "agent")  # no part of Ansible's world; the hosts' interpreter runs it
        (collection / "tests" / "sanity").mkdir(parents=True)
        shutil.copy(IGNORED, collection / "tests" / "sanity" / f"ignore-{core()}.txt")
        command = ["ansible-test", "sanity", "--python", f"{sys.version_info.major}.{sys.version_info.minor}"]
        command += [word for test in SKIPPED for word in ("--skip-test", test)]
        return subprocess.run(command, cwd=collection, env={**os.environ, "HOME": str(HOME)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
