"""Our HBONE listener under h2spec, which checks a server against HTTP/2 rule by rule."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.support.hbone_peer import context
from tests.support.http2_relay import Relay
from tests.support.pki import ALICE
from tests.support.proxy import Mesh

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

CASES = 145
NO_TABLE = "it uses a header table, and we advertise one of 0 bytes, which RFC 9113 (§4.3.1) makes every peer heed"
NO_PRIORITIES = "RFC 9113 (§5.3) has given up priorities, and what says one is ignored"
LENGTH = 'Sends a HEADERS frame with the "content-length" header field which does not equal the '
NO_LENGTH = "its POST becomes a CONNECT, which has no content-length (RFC 9110 §9.3.6)"
DO_NOT_APPLY = {
    ("generic/5", "Sends a dynamic table size update"): NO_TABLE,
    ("generic/5", "Sends multiple dynamic table size update"): NO_TABLE,
    ("http2/6.10", "Sends multiple CONTINUATION frames preceded by a HEADERS frame"): NO_TABLE,
    ("http2/4.2", "Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE"): (
        "it takes the limit for 16 KiB and sends a little more; we advertise 1 MiB"
    ),
    ("http2/5.3.1", "Sends HEADERS frame that depend on itself"): NO_PRIORITIES,
    ("http2/5.3.1", "Sends PRIORITY frame that depend on itself"): NO_PRIORITIES,
    ("http2/8.1.2.6", f"{LENGTH}DATA frame payload length"): NO_LENGTH,
    ("http2/8.1.2.6", f"{LENGTH}sum of the multiple DATA frames payload length"): NO_LENGTH,
}


def answer(sock: socket.socket) -> None:
    """An application with something to say, which then listens until the client has ended."""
    sock.sendall(b"x" * 100)
    while sock.recv(1 << 16):
        continue


def failed(report: Path) -> set[tuple[str, str]]:
    """The cases of a JUnit report that did not pass; checks that none is missing."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    assert len(cases) == CASES
    return {(case.attrib["package"], case.attrib["classname"]) for case in cases if len(case)}


def test_every_case_passes_that_applies_to_a_server_of_connect(tmp_path: Path) -> None:
    """Requests of h2spec become CONNECTs to an application; the exceptions are exactly those listed, with a reason."""
    executable = shutil.which("h2spec")
    assert executable is not None, "make interop builds it"
    report = tmp_path / "report.xml"
    with Mesh() as mesh, mesh.app(answer) as app:
        alice = mesh.authority.issue(ALICE)
        tls = context(alice, alice.roots_pem, server=False)
        with Relay((mesh.ip, 15008), tls, f"{mesh.ip}:{app.port}") as relay:
            command = [executable, "-h", "127.0.0.1", "-p", str(relay.port), "-o", "2", "-j", str(report)]
            said = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False).stdout
    assert failed(report) == set(DO_NOT_APPLY), said
