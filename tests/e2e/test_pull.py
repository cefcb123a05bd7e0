"""`ansible-pull` on a host without a network: it takes itself into the mesh, from git and archives built elsewhere."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from lab.instance import Lab
from tests.e2e.hosts import BUILD, ROOT, Hosts, gone_afterwards, must, seconds_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LAB = Lab("pull")
HOST = "solo1"
HOSTS = Hosts(LAB)
FILES = Path(__file__).parent / "pull"
COLLECTION = ("LICENSE", "README.md", "agent", "galaxy.yml", "meta", "playbooks", "plugins", "pyproject.toml", "roles")
# ansible-core and what it needs; the module git is a program and two names for it.
DISTRIBUTIONS = ("ansible-core", "jinja2", "MarkupSafe", "PyYAML", "cryptography", "cffi", "packaging", "resolvelib")
GIT = ("/usr/bin/git", "/usr/bin/git-upload-pack", "/usr/lib/git-core/git", "/usr/lib/git-core/git-upload-pack")
PULL = "/opt/ansible/bin/ansible-pull --url file:///srv/estate.git --directory /var/lib/estate -i hosts.yml site.yml"


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=operator", "-c", "user.email=operator@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)


def ship(files: Iterable[tuple[Path, str]]) -> None:
    """Put files and folders on the host, each as what it is called there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, name in files:
            tar.add(path, name.lstrip("/"), filter=lambda entry: None if "__pycache__" in entry.name else entry)
    HOSTS.must(HOST, "tar", "-x", "-C", "/", stdin=packed.getvalue())


def ansible() -> Iterator[tuple[Path, str]]:
    """ansible-core of this machine, for an environment of the host's own Python."""
    for distribution in DISTRIBUTIONS:
        found = metadata.distribution(distribution)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in {"..", "ansible_test"}}:
            yield Path(str(found.locate_file(top))), f"/opt/ansible/lib/python3.11/site-packages/{top}"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an operator keeps in git: inventory, playbook, and the collection of one version."""
    folder = tmp_path_factory.mktemp("estate")
    shutil.copytree(FILES, folder, dirs_exist_ok=True)
    collection = folder / "collections" / "ansible_collections" / "hostmesh" / "mesh"
    collection.mkdir(parents=True)
    for name in (*COLLECTION, "systemd"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, collection / name)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message=The mesh")
    return folder


@pytest.fixture(scope="module")
def host(repository: Path) -> Iterator[None]:
    """A host with services, git and Ansible, and with archives that were built elsewhere; it has no network."""
    with gone_afterwards(LAB):
        archive = Path(json.loads(must("/usr/bin/python3", BUILD, "--source", ROOT).splitlines()[-1])["archive"])
        must(sys.executable, "-m", "demo.deploy", LAB.name, FILES / "estate.json")
        HOSTS.must(HOST, "python3", "-m", "venv", "--without-pip", "/opt/ansible")
        ship(ansible())
        for name in ("ansible-pull", "ansible-playbook", "ansible"):
            program = (Path(sys.executable).parent / name).read_bytes().partition(b"\n")[2]
            HOSTS.must(HOST, "tee", f"/opt/ansible/bin/{name}", stdin=b"#!/opt/ansible/bin/python\n" + program)
            HOSTS.must(HOST, "chmod", "0755", f"/opt/ansible/bin/{name}")
        ship((Path(name), name) for name in GIT)
        ship([(archive, f"/srv/archives/bundles/{archive.name}"), (repository / ".git", "/srv/estate.git")])
        HOSTS.must(HOST, "ip", "route", "flush", "default")
        yield


def pull() -> str:
    """One run, as its operator would start it; its recap."""
    said = must("ssh", "-F", LAB.ssh_config, HOST, f"LANG=C.UTF-8 {PULL}")
    return re.sub(r" +", " ", said.rpartition("PLAY RECAP")[2])


@pytest.mark.usefixtures("host")
def test_a_host_without_a_network_takes_itself_into_the_mesh(repository: Path) -> None:
    """By what git has; once more changes nothing; what is new in git is there after the next run."""
    assert HOSTS.must(HOST, "sh", "-c", "command -v gcc pip pip3 || true") == "", "it cannot build anything"
    assert HOSTS.must(HOST, "ip", "route", "show", "default") == "", "nor fetch anything"
    pull()
    assert len(HOSTS.status(HOST)["workloads"]) == 1
    assert " changed=0 " in pull()

    inventory = (repository / "hosts.yml").read_text(encoding="utf-8")
    (repository / "hosts.yml").write_text(f"{inventory}            - name: sleep\n", encoding="utf-8")
    git(repository, "commit", "--all", "--quiet", "--message=Take sleep in")
    ship([(repository / ".git", "/srv/estate.git")])
    pull()
    seconds_until(lambda: HOSTS.status(HOST).get("ready"))
    assert len(HOSTS.status(HOST)["workloads"]) == 2
    request = b'{"get": "http://10.236.0.11:8080/"}'
    answer = json.loads(HOSTS.must(HOST, "nc", "-NU", "/run/sleep/control.sock", stdin=request))
    assert answer.get("code") == 200, answer
    log = HOSTS.must(HOST, "journalctl", "--unit=hostmesh-agent", "--output=cat", "--no-pager")
    assert "certificate of spiffe://cluster.local/ns/default/sa/sleep is available" in log
