"""HBONE with curl as client: its CONNECT over HTTP/2 to a proxy, with mutual TLS."""

from __future__ import annotations

import hashlib
import io
import socket
from pathlib import Path

import pycurl
import pytest
from tests.support.nghttpx import write_credentials
from tests.support.pki import ALICE
from tests.support.proxy import Mesh

pytestmark = pytest.mark.interop

PROXYTYPE_HTTPS2 = 3
"""libcurl's CURLPROXY_HTTPS2, which pycurl has no name for."""

BODY = hashlib.shake_128(b"curl").digest(8 << 20)


def http_echo(sock: socket.socket) -> None:
    """An HTTP/1.1 server that gives a PUT's body back."""
    stream = sock.makefile("rb")
    length = 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = stream.read(length)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body)


def curl(mesh: Mesh, directory: Path, url: str) -> pycurl.Curl:
    """A handle that goes through our inbound as if that were its proxy."""
    chain, key, roots = write_credentials(directory, mesh.authority.issue(ALICE))
    handle = pycurl.Curl()
    handle.setopt(pycurl.PROXY, f"https://{mesh.ip}:15008")
    handle.setopt(pycurl.PROXYTYPE, PROXYTYPE_HTTPS2)
    handle.setopt(pycurl.HTTPPROXYTUNNEL, 1)
    handle.setopt(pycurl.PROXY_SSLCERT, str(chain))
    handle.setopt(pycurl.PROXY_SSLKEY, str(key))
    handle.setopt(pycurl.PROXY_CAINFO, str(roots))
    handle.setopt(pycurl.PROXY_SSL_VERIFYHOST, 0)  # it looks for a host's name, and ours is a SPIFFE one
    handle.setopt(pycurl.TIMEOUT, 30)
    handle.setopt(pycurl.URL, url)
    return handle


def test_a_body_goes_up_and_comes_back(tmp_path: Path) -> None:
    """8 MiB each way through CONNECT over HTTP/2; our log names who called."""
    with Mesh() as mesh, mesh.app(http_echo) as app:
        handle, answer = curl(mesh, tmp_path, f"http://{mesh.ip}:{app.port}/"), io.BytesIO()
        handle.setopt(pycurl.UPLOAD, 1)
        handle.setopt(pycurl.READDATA, io.BytesIO(BODY))
        handle.setopt(pycurl.INFILESIZE, len(BODY))
        handle.setopt(pycurl.HTTPHEADER, ["Expect:"])
        handle.setopt(pycurl.WRITEDATA, answer)
        handle.perform()
        handle.close()
        assert answer.getvalue() == BODY
        assert dict(mesh.server.main.wait_logs(1)[0].fields)["src.identity"] == str(ALICE)


def test_a_refusal_is_heard(tmp_path: Path) -> None:
    """An address that is not ours: to curl that is a server that cannot be reached."""
    with Mesh() as mesh:
        handle = curl(mesh, tmp_path, "http://192.0.2.1:80/")
        with pytest.raises(pycurl.error, match="connect"):
            handle.perform()
        handle.close()
        assert "ip mismatch" in str(dict(mesh.server.main.wait_logs(1)[0].fields)["error"])
