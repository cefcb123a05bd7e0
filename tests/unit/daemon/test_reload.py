"""What a reload means, and what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hostmesh.config.agent import load
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.daemon.reload import ReloadJudge, ReloadRefused
from hostmesh.kernel.program import Program


class Host:
    """An installed program whose check ends as `finds` says, and its agent.yaml."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "agent.yaml"
        self.root_cert = directory / "root.pem"
        self._program = directory / "hostmesh"
        self.configure("node: a")
        self.finds("exit 0")
        program = Program((str(self._program), "agent"), self._program)
        self.judge = ReloadJudge(load(self.config, {}), self.config, {}, program)

    def configure(self, line: str) -> None:
        self.config.write_text(f"{line}\ncontrol_plane: {{root_cert: {self.root_cert}}}\n")

    def finds(self, script: str) -> None:
        self._program.unlink(missing_ok=True)
        self._program.write_text(f"#!/bin/sh\n{script}\n")
        self._program.chmod(0o755)

    def upgrade(self) -> None:
        newer = self._program.with_name("newer")
        self._program.rename(newer)
        self._program.symlink_to(newer)

    def needs_new_program(self) -> bool:
        return asyncio.run(self.judge.needs_new_program())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_same_settings_need_none(host: Host) -> None:
    """Only workloads.d is read again; a comment in agent.yaml is no change either."""
    assert not host.needs_new_program()
    host.configure("# a comment\nnode: a")
    assert not host.needs_new_program()


def test_other_settings_version_or_root_need_one(host: Host, tmp_path: Path) -> None:
    """Each by itself."""
    host.configure("node: b")
    assert host.needs_new_program()
    host.configure("node: a")
    assert not host.needs_new_program()
    host.root_cert.write_text("another root")
    assert host.needs_new_program()
    host.root_cert.unlink()
    host.upgrade()
    assert host.needs_new_program()


def test_a_mistake_is_told_before_anything_starts(host: Host) -> None:
    """With its place."""
    host.configure("nod: b")
    with pytest.raises(InvalidYaml, match=r"agent.yaml:1: nod: unknown field; did you mean 'node'"):
        host.needs_new_program()


def test_what_the_installed_program_finds_is_the_reason(host: Host) -> None:
    """A newer version may know better; one that does not even start is not started in the old one's place."""
    host.configure("node: b")
    host.finds("echo 'Error: agent.yaml:1: node: too short' >&2; exit 1")
    with pytest.raises(ReloadRefused, match=r"^agent\.yaml:1: node: too short$"):
        host.needs_new_program()
    host.finds("exit 3")
    with pytest.raises(ReloadRefused, match="exit status 3"):
        host.needs_new_program()


def test_a_program_that_is_not_there_is_refused(host: Host, tmp_path: Path) -> None:
    """In the middle of an upgrade, for instance."""
    host.configure("node: b")
    (tmp_path / "hostmesh").unlink()
    with pytest.raises(ReloadRefused, match="cannot be started: No such file"):
        host.needs_new_program()
