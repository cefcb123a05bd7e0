"""The mesh of the documentation, word by word from one file, and a real curl that uses the SOCKS5 proxy."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.netns.test_local_mode import is_cut
from tests.netns.two_hosts import Agents, local_settings, two_agents
from tests.support.agent import RunningAgent, until
from tests.support.pki import Authority

from hostmesh.model.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.netns.conftest import Lab
    from tests.support.netns import Cgroup

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
SERVICE = """services:
- {name: web, namespace: prod, hostname: web.prod.example, vips: [/10.96.0.7], ports: {80: 8080}}
"""
SOCKS = ("127.0.0.1", 15080)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
HANDSHAKE_FAILED = 97
"""Exit status of curl when a SOCKS proxy refuses (CURLE_PROXY)."""


def documented(lab: Lab) -> str:
    """What the document has under "Without a control plane", with the addresses of the lab."""
    chapter = DOCUMENT.read_text().partition("## Without a control plane\n")[2]
    [example] = re.findall(r"```yaml\n(.*?)```", chapter, re.DOTALL)[:1]
    return str(example).replace("192.0.2.10", lab.host.v4).replace("192.0.2.11", f"{lab.peer.v4}, '{lab.peer.v6}'")


@contextmanager
def mesh_of_the_document(lab: Lab, directory: Path, text: str) -> Iterator[Agents]:
    """Both of its hosts, with certificates at the places that the document names."""
    authority, file = Authority(), directory / "mesh.yaml"
    file.write_text(text)
    accounts = {"sleep": "default", "web": "web"}

    def prepare(made: RunningAgent, name: str, node: str) -> Mapping[str, Any]:
        issued = authority.issue(Identity("cluster.local", "prod", accounts[name]))
        folder = made.directory / "certificates" / "prod" / accounts[name]
        folder.mkdir(parents=True)
        for leaf, content in (
            ("key.pem", issued.key_pem),
            ("cert-chain.pem", issued.chain_pem),
            ("root-cert.pem", issued.roots_pem),
        ):
            (folder / leaf).write_bytes(content)
        (folder / "key.pem").chmod(0o600)
        unit = f"workload: prod/{name}\ncapture: {{unit: {name}.service}}\n"
        account = "" if accounts[name] == "default" else f"serviceAccount: {accounts[name]}\n"
        (made.workloads / "w.yaml").write_text(unit + account)
        return {**local_settings(made, file), "node": {"host1": "app1", "host2": "app2"}[node], "socks5": True}

    with two_agents(lab, directory, ("sleep", "web"), prepare) as agents:
        yield agents


def curl(lab: Lab, cgroup: Cgroup, *arguments: str) -> subprocess.Popen[str]:
    """The program, in a service of the client's host."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", *arguments]
    with lab.host.entered(), cgroup.entered():
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fetched(lab: Lab, listener: socket.socket, *arguments: str) -> str:
    """What curl prints of an answer that the server's workload gave."""
    running = curl(lab, lab.a, *arguments)
    with lab.accept(listener) as served:
        assert served.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
        served.sendall(ANSWER)
    output, errors = running.communicate(timeout=30)
    assert running.returncode == 0, errors
    return output


def refused(lab: Lab, cgroup: Cgroup, *arguments: str) -> int:
    """The exit status of a curl that gets nothing."""
    running = curl(lab, cgroup, *arguments)
    output, _ = running.communicate(timeout=30)
    assert output == ""
    return running.returncode


def test_the_document_is_a_mesh_and_a_file_can_be_changed(lab: Lab, tmp_path: Path) -> None:
    """Copied from the page it carries traffic; a reload takes a change over, and a mistake leaves all as it was."""
    text = documented(lab)
    with mesh_of_the_document(lab, tmp_path, text) as (_, server):
        listener = lab.listen(lab.peer, lab.peer.v4, 8080, lab.b)
        url = f"http://{lab.peer.v4}:8080/"
        assert fetched(lab, listener, url) == "hello"
        until(lambda: 'src.identity="spiffe://cluster.local/ns/prod/sa/default"' in server.log)

        file = tmp_path / "mesh.yaml"
        file.write_text(text.replace("action: Allow", "action: Alow"))
        assert any(note.startswith("STATUS=reload refused") for note in server.reload())
        until(lambda: re.search(rf"{re.escape(str(file))}:\d+: policies\[0\]\.action: ", server.log) is not None)
        assert fetched(lab, listener, url) == "hello"

        with lab.connect(lab.host, (lab.peer.v4, 8080), lab.a) as open_, lab.accept(listener) as served:
            open_.sendall(b"hello")
            assert served.recv(5) == b"hello"
            file.write_text(
                text.replace("{name: web, namespace: prod, scope", "{name: only, namespace: prod, scope").replace(
                    "sa/default", "sa/nobody"
                )
            )
            assert not any(note.startswith("STATUS=reload refused") for note in server.reload())
            assert is_cut(open_)
            until(lambda: "connection closed due to policy change" in server.log)

        file.write_text(text.replace("action: Allow", "action: Deny"))
        assert not any(note.startswith("STATUS=reload refused") for note in server.reload())
        until(lambda: refused(lab, lab.a, url) != 0)
        until(lambda: "explicitly denied by: prod/web" in server.log)


def test_a_real_curl_names_its_destination(lab: Lab, tmp_path: Path) -> None:
    """By name, by address of both families, with a password that nobody wants; always as the workload that it is.

    Nobody else is served, and nothing else is offered.
    .
    """
    mesh = documented(lab).replace(
        "node: app2, services: {}", "node: app2, services: {prod/web.prod.example: {80: 8080}}"
    )
    with mesh_of_the_document(lab, tmp_path, mesh + SERVICE) as (client, server):
        v4, v6 = (lab.listen(lab.peer, ip, 8080, lab.b) for ip in (lab.peer.v4, lab.peer.v6))
        proxy = f"{SOCKS[0]}:{SOCKS[1]}"
        at_v4, at_v6 = f"http://{lab.peer.v4}:8080/", f"http://[{lab.peer.v6}]:8080/"
        assert fetched(lab, v4, "--socks5-hostname", proxy, at_v4) == "hello"
        assert fetched(lab, v6, "--socks5", proxy, at_v6) == "hello"
        assert fetched(lab, v4, "--socks5-hostname", proxy, "http://web.prod.example/") == "hello"
        assert fetched(lab, v4, "--socks5-hostname", f"me:secret@{proxy}", at_v4) == "hello"
        until(lambda: server.log.count('src.identity="spiffe://cluster.local/ns/prod/sa/default"') == 4)

        nowhere = "http://nobody.invalid:80/"
        assert refused(lab, lab.a, "--socks5-hostname", proxy, nowhere) == HANDSHAKE_FAILED
        until(lambda: "dst.addr=nobody.invalid:80" in client.log)
        assert refused(lab, lab.other, "--socks5-hostname", proxy, at_v4) == HANDSHAKE_FAILED
        until(lambda: "SOCKS5 is for captured workloads: the caller is none" in client.log)

        _refuses_what_is_no_connect(lab)
        until(lambda: "SOCKS client gone before it said where to" in client.log)


def _refuses_what_is_no_connect(lab: Lab) -> None:
    """BIND, UDP ASSOCIATE, unknown addresses, insisting on a password, other versions, half a request."""
    v4 = b"\x01" + bytes(6)
    for said, answer in (
        (b"\x05\x01\x00\x05\x02\x00" + v4, b"\x05\x00\x05\x07"),
        (b"\x05\x01\x00\x05\x03\x00" + v4, b"\x05\x00\x05\x07"),
        (b"\x05\x01\x00\x05\x01\x00\x09", b"\x05\x00\x05\x08"),
        (b"\x05\x01\x02", b"\x05\xff"),
        (b"\x04\x01\x00\x50\x0a\x00\x00\x01\x00", b"\x05\xff"),
        (b"\x05\x01\x00\x05\x01\x00\x03\x20web", b"\x05\x00"),
    ):
        with lab.connect(lab.host, SOCKS, lab.a) as sock:
            sock.sendall(said)
            with suppress(OSError):  # it may have been left already
                sock.shutdown(socket.SHUT_WR)
            assert _everything(sock)[: len(answer)] == answer


def _everything(sock: socket.socket) -> bytes:
    """Until the end, or until the proxy resets what it has not read."""
    received = b""
    with suppress(ConnectionResetError):
        while data := sock.recv(64):
            received += data
    return received
