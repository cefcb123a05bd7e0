"""A bug report: what helps is in it, no secret is, and what is missing is named."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hostmesh.cli import main
from hostmesh.cli.bug_report import Places, pieces, run, write

KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
TOKEN = "0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
SECRET = "correct-horse-battery"


def programs(command: Sequence[str]) -> str:
    """Every program prints secrets, but one that is not there."""
    if command[0] == "timedatectl":
        raise FileNotFoundError("timedatectl: not found")
    return f"{command[0]} says\n{KEY}\n--token {TOKEN}\n"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host whose files are full of secrets."""
    etc, state = tmp_path / "etc", tmp_path / "state"
    (etc / "conf.d").mkdir(parents=True)
    (etc / "agent.yaml").write_text(f"node: mesh1\njoin_token: {TOKEN}\n", encoding="utf-8")
    (etc / "conf.d" / "etcd.yaml").write_text(f"etcd:\n  password: {SECRET}\n  key: |\n    {KEY}", encoding="utf-8")
    (etc / "key.pem").write_text(KEY, encoding="utf-8")
    (state / "ca").mkdir(parents=True)
    (state / "ca" / "ca-key.pem").write_text(KEY, encoding="utf-8")
    return Places(etc, (state,), tmp_path / "no.sock", admin_port=1, stats_port=1)


def test_no_secret_is_in_a_report(places: Places, tmp_path: Path) -> None:
    """Neither in what is read nor in what programs print; looked for in every byte of the archive."""
    file = tmp_path / "report.tar.gz"
    write(file, pieces(places, "today", programs), 0.0)
    everything = gzip.decompress(file.read_bytes())
    for secret in (*KEY.splitlines()[1:-1], TOKEN.split(".")[1], SECRET):
        assert secret.encode() not in everything
    assert file.stat().st_mode & 0o777 == 0o600


def test_requests_at_waypoints_are_not_in_it(places: Places, tmp_path: Path) -> None:
    """The access log has what users put into paths; what the program itself says is there."""

    def journal(command: Sequence[str]) -> str:
        if "hostmesh-waypoint@*" in command and command[0] == "journalctl":
            return f'now mesh1 hostmesh[1]: {{"path": "/?q={SECRET}"}}\nnow mesh1 hostmesh[1]: envoy started\n'
        return ""

    file = tmp_path / "report.tar.gz"
    write(file, pieces(places, "today", journal), 0.0)
    everything = gzip.decompress(file.read_bytes())
    assert SECRET.encode() not in everything
    assert b"envoy started" in everything


def test_what_helps_is_in_it(places: Places, tmp_path: Path) -> None:
    """Settings without their secrets, names of files without what is in them, and what could not be had."""
    file = tmp_path / "report.tar.gz"
    count = write(file, pieces(places, "today", programs), 0.0)
    with tarfile.open(file) as archive:
        texts = {
            member.name.removeprefix("hostmesh-bug-report/"): archive.extractfile(member).read().decode()  # type: ignore[union-attr]
            for member in archive
        }
    assert len(texts) == count
    assert texts["etc/agent.yaml"].startswith("node: mesh1\n")
    assert "ca/ca-key.pem" in texts["files/state.txt"]
    assert "nft says" in texts["network/nft.txt"]
    assert '"cryptography"' in texts["version.json"]
    assert [line.partition(":")[0] for line in texts["errors.txt"].splitlines()] == [
        "agent/config_dump.json",
        "agent/status.json",
        "agent/connections.json",
        "agent/metrics.txt",
        "control-plane/status.json",
        "host/clock.txt",
    ]


def test_a_program_that_is_missing_fails_by_itself() -> None:
    """An OSError, which the report names; a program that complains has said something."""
    with pytest.raises(OSError, match="no-such-program"):
        run(["no-such-program"])
    assert "missing" in run(["ls", "/missing"])


def test_a_place_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    """With what to do about it."""
    result = CliRunner().invoke(main, ["bug-report", "-o", str(tmp_path / "none" / "x.tar.gz")])
    assert result.exit_code == 1
    assert "choose another place" in result.output
