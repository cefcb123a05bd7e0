"""Rules of hostmesh-host-key: it signs enrolments of this host for the agent, and nothing else for nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest
from tests.support.host_keys import HostKeys, running_helper
from tests.support.patience import PATIENCE

from hostmesh.enrolment.host_key_helper import signatures
from hostmesh.identity.host_key import HostKeySigner, HostKeyUnavailable
from hostmesh.wire.host_proof import MAX_LINE, NAMESPACE, Statement, decode_reply
from hostmesh.wire.ssh_key import BadSshKey
from hostmesh.wire.sshsig import verify

STATEMENT = Statement("cluster.local", "mesh2", bytes(32), b"challenge")


def ask(path: Path, statement: Statement = STATEMENT) -> tuple[bytes, ...]:
    return asyncio.run(HostKeySigner(path, 5).sign(statement))


def test_every_key_signs(tmp_path: Path) -> None:
    """Those that are there; which one is registered, only the control plane knows."""
    keys = HostKeys()
    with running_helper(tmp_path, keys) as path:
        made = ask(path)
    assert [verify(blob, NAMESPACE, STATEMENT.encode()) for blob in made] == keys.public


def test_others_may_not_ask(tmp_path: Path) -> None:
    """The kernel says who it is, whatever the socket's mode became."""
    with (
        running_helper(tmp_path, HostKeys(), users=frozenset({os.getuid() + 1})) as path,
        pytest.raises(HostKeyUnavailable, match=f"user {os.getuid()} may not ask"),
    ):
        ask(path)


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"[]\n",
        b"null\n",
        b'{"trust_domain": "a", "node": "b", "request_hash": "00", "challenge": "00"}\n',
        b'{"trust_domain": "a", "node": "b\\nc", "request_hash": "%s", "challenge": "00"}\n' % (b"00" * 32),
        b'{"trust_domain": "a", "node": "b", "request_hash": 1, "challenge": "00"}\n',
        b'{"message": "anything"}\n',
        b"x" * (2 * MAX_LINE) + b"\n",
        b"\xff\n",
    ],
    ids=range(9),
)
def test_nothing_but_enrolments_is_signed(tmp_path: Path, request_line: bytes) -> None:
    """And the helper lives on."""
    with running_helper(tmp_path, HostKeys()) as path:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(request_line)
            connection.settimeout(PATIENCE)
            answer = connection.makefile("rb").readline()
        assert json.loads(answer)["signatures"] == []
        with pytest.raises(ValueError, match=r"\w"):
            decode_reply(answer)
        assert len(ask(path)) == 2


def test_what_is_wrong_with_keys_is_said(tmp_path: Path) -> None:
    """Which file, and what to do."""
    broken = tmp_path / "ssh_host_ed25519_key"
    with pytest.raises(BadSshKey, match=r"no SSH host key \(.*ssh_host_ed25519_key\); make one with ssh-keygen -A"):
        signatures(STATEMENT, [broken])
    broken.write_text("rubbish")
    with pytest.raises(BadSshKey, match=r"ssh_host_ed25519_key: the private key cannot be read"):
        signatures(STATEMENT, [broken])


def test_a_helper_that_is_not_there(tmp_path: Path) -> None:
    """With the next step."""
    with pytest.raises(HostKeyUnavailable, match=r"No such file.*systemctl start hostmesh-host-key.socket"):
        ask(tmp_path / "nothing")


def test_a_helper_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    """Within the time that was given."""
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen(1)
        with pytest.raises(HostKeyUnavailable, match="no answer in time"):
            asyncio.run(HostKeySigner(tmp_path / "deaf", 0.05).sign(STATEMENT))
