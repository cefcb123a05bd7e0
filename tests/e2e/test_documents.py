"""The documents, typed: every block of commands, on the hosts that docs/getting-started.md begins with.

Names and addresses in the pages are those of these hosts, so that little has to be put in for something else.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from lab.instance import Lab
from tests.e2e.hosts import ROOT, Hosts, estate, seconds_until
from tools.document_blocks import Block, blocks

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LAB = Lab("documents")
HOSTS = Hosts(LAB)
FILES = Path(__file__).parent / "documents"
DOCS = ROOT / "docs"
PLACES = {"host": "web1", "control plane": "db1"}
FOLDER = "/root/documents"
FIRST, LAST = DOCS / "getting-started.md", DOCS / "troubleshooting.md"
WORDS = {"<namespace>/<client>": "shop/storefront", "<namespace>/<workload>": "shop/orders-db1.example.org"}
WORDS |= {"<namespace>": "shop", "<name>": "orders"}


@dataclass
class Reader:
    """Somebody with a terminal on each host and one on the controller."""

    controller: Path
    said: dict[str, str] = field(default_factory=dict)

    def ansible(self) -> dict[str, str]:
        """What is not in the documents' inventory: how this lab is reached."""
        found = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_REMOTE_USER": "root"}
        found |= {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"), "ANSIBLE_NOCOLOR": "1"}
        found |= {"ANSIBLE_SSH_COMMON_ARGS": f"-F {LAB.ssh_config}"}
        return {**found, "PATH": f"{Path(sys.executable).parent}:{found['PATH']}"}

    def type(self, where: str, command: str) -> subprocess.CompletedProcess[str]:
        """One line, over a connection of its own; what watches is ended after a moment."""
        if "--watch" in command:
            command = f"timeout 2 {command}; test $? = 124"
        typed: list[str] = ["sh", "-c", command]
        if where != "controller":
            typed = ["ssh", "-F", str(LAB.ssh_config), PLACES[where], f"cd {FOLDER} && {command}"]
        return subprocess.run(
            typed, cwd=self.controller, env=self.ansible(), capture_output=True, text=True, check=False, timeout=600
        )

    def put(self, name: str, text: str) -> None:
        """A file that a page shows, wherever it may be meant."""
        if not name.startswith("/"):
            (self.controller / name).write_text(text, encoding="utf-8")
        for host in PLACES.values():
            HOSTS.must(host, "tee", name if name.startswith("/") else f"{FOLDER}/{name}", stdin=text.encode())
            if name.startswith("/etc/hostmesh"):
                HOSTS.must(host, "systemctl", "reload", "hostmesh-agent")

    def real(self, command: str) -> str:
        """A command with what exists here in place of examples."""
        for word, meant in WORDS.items():
            command = command.replace(word, meant)
        if "3f1c9a0d5b7e2468" in command:
            tokens = json.loads(HOSTS.must(PLACES["control plane"], "hostmesh", "token", "list", "-o", "json"))
            command = command.replace("3f1c9a0d5b7e2468", tokens[0]["id"])
        if "5f0c…" in command:
            shown = HOSTS.must(PLACES["host"], "hostmesh", "certificates", "-o", "json")
            serial = re.search(r'"serialNumber": "(\d+)"', shown)
            assert serial is not None, shown
            command = command.replace("5f0c…", f"{int(serial[1]):x}")
        if "<a line of the access log" in command:
            line = HOSTS.must(
                PLACES["host"], "sh", "-c", "journalctl -u hostmesh-agent -o cat | grep 'access ' | tail -1"
            )
            command = f"hostmesh explain --log {shlex.quote(line.strip())}"
        return command

    def read(self, block: Block) -> Iterator[str]:
        """Do what a block says; yields what went otherwise than it says."""
        # One with a place is put there only if the page says so; the others lie where commands are typed.
        if block.file and (block.where or not block.file.startswith("/")):
            self.put(block.file, "\n".join(block.lines[1:]) + "\n")
            return
        if block.file or not block.where:
            return
        for command in block.commands:
            done = self.type(block.where, self.real(command))
            self.said[command] = done.stdout
            if done.returncode != block.status:
                page = block.page.relative_to(ROOT)
                yield f"{page}:{block.line}: {command}: {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Hosts with services that know nothing of a mesh."""
    controller = tmp_path_factory.mktemp("controller")
    (controller / "playbooks").symlink_to(ROOT / "playbooks")
    shutil.copytree(ROOT / "inventories" / "istio", controller / "inventories" / "istio")
    with estate(LAB, FILES / "estate.json"):
        reader = Reader(controller)
        for host in PLACES.values():
            HOSTS.must(host, "mkdir", "-p", FOLDER, "/etc/bash_completion.d", "/var/run/secrets/tokens")
        for name, text in yaml.safe_load((FILES / "files.yaml").read_text(encoding="utf-8")).items():
            reader.put(name, text)
        HOSTS.must(PLACES["host"], "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/app1")
        keys = HOSTS.must(PLACES["host"], "cat", "/root/app1.pub")
        reader.put("/root/app1-host-key.pub", keys)
        reader.put("known_hosts", f"app1 {keys}")
        # A host whose resolver is nothing but resolv.conf; nobody answers there.
        HOSTS.must(PLACES["host"], "tee", "/etc/resolv.conf", stdin=b"nameserver 192.0.2.1\n")
        yield reader


def test_what_the_documents_say_can_be_done(reader: Reader) -> None:
    """From the first page to the last, in the order in which somebody might read them; then hostmesh is taken off."""
    first = list(blocks(FIRST))
    wrong = [text for block in first[:-1] for text in reader.read(block)]
    assert not wrong, "\n".join(wrong)
    answer = reader.type("control plane", "curl -sS http://192.0.2.31:8080/")
    assert "Hello From Orders!" in answer.stdout
    assert "MUTUAL_TLS" in reader.said["hostmesh explain storefront.service orders.shop.mesh.internal:5432"]
    others = [page for page in sorted(DOCS.rglob("*.md")) if page not in (FIRST, LAST)]
    wrong = [text for page in [*others, LAST] for block in blocks(page) for text in reader.read(block)]
    assert not wrong, "\n".join(wrong)
    wrong = list(reader.read(first[-1]))
    assert not wrong, "\n".join(wrong)
    for host in PLACES.values():
        seconds_until(lambda host=host: not HOSTS.run(host, "nft", "list", "tables"))  # type: ignore[misc]
        assert "127.0.15.53" not in HOSTS.must(host, "cat", "/etc/resolv.conf")
        assert HOSTS.run(host, "sh", "-c", "ls -d /opt/hostmesh /etc/hostmesh /var/lib/hostmesh* 2>/dev/null") == ""
