"""Shells complete commands and options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hostmesh.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    """It calls hostmesh back."""
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_HOSTMESH_COMPLETE={shell}_complete" in result.output.replace("env ", "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("certi", ["certificates"]), ("workloads --na", ["--namespace"]), ("certificates -o y", ["yaml"])],
)
def test_bash_completes(tmp_path: Path, typed: str, offered: list[str]) -> None:
    """The real shell, with the script and the command as a user has them."""
    bash = shutil.which("bash")
    assert bash is not None
    command = tmp_path / "hostmesh"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m hostmesh "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    words = ["hostmesh", *typed.split(" ")]
    script = f"""
    source <(hostmesh completion bash)
    COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
    _hostmesh_completion hostmesh
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "-c", script], capture_output=True, text=True, timeout=30, env={"PATH": path}, check=False
    )
    assert done.stdout.split() == offered, done.stderr
