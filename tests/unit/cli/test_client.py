"""The CLI's side of the socket: what is said when nobody, or somebody else, answers."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from hostmesh.cli.client import Client, ControlPlaneUnreachable, problem_line


def test_no_socket(tmp_path: Path) -> None:
    """What, where, next step."""
    with pytest.raises(ControlPlaneUnreachable) as raised:
        Client(tmp_path / "none.sock").status()
    assert raised.value.message == (
        f"{tmp_path}/none.sock: the control plane is not running on this host: there is no such socket; "
        "see `systemctl status hostmesh-control-plane`, or give another --socket"
    )


def test_nobody_listens(tmp_path: Path) -> None:
    """What a killed control plane leaves."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with pytest.raises(ControlPlaneUnreachable, match=r"does not answer: .*Connection refused"):
        Client(tmp_path / "dead.sock").status()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "unexpected answer 200: hello"),
        (b"SSH-2.0-x\r\n", "does not answer: SSH-2.0-x"),
        (b"", "does not answer: Remote end closed connection"),
    ],
)
def test_somebody_else_answers(tmp_path: Path, answer: bytes, why: str) -> None:
    """Another program's socket is told from ours."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "other.sock"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ControlPlaneUnreachable, match=why):
            Client(tmp_path / "other.sock").status()
        thread.join()


def test_problems_read_as_compilers_write_them() -> None:
    """file:line: field: why, so that editors jump there."""
    problem = {"source": "a.yaml", "line": 3, "field": "spec.x", "why": "wrong"}
    assert problem_line(problem) == "a.yaml:3: spec.x: wrong"
    assert problem_line({**problem, "field": ""}) == "a.yaml:3: wrong"
