"""What `systemctl reload` (SIGHUP) means: nothing but workloads.d, another program or other settings, or a mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from hostmesh.config.agent import AgentConfig, load
from hostmesh.kernel.program import Program

CHECK_TIMEOUT = 60.0
"""Seconds that the installed program gets to start and to read its configuration."""


class ReloadRefused(Exception):
    """The agent goes on as it was; the text says what is wrong and where."""


class ReloadJudge:
    """Compares what the agent was started from with what is there now.

    Args:
        config: what the agent runs with.
        path: where it was read from.
        environment: with which it was read.
        program: what the agent runs.
    """

    def __init__(self, config: AgentConfig, path: Path, environment: Mapping[str, str], program: Program) -> None:
        self.program = program
        self._config = config
        self._path = path
        self._environment = environment
        self._installed = program.installed()
        self._files = _files(config)

    async def needs_new_program(self) -> bool:
        """Whether this program can not do what is asked for; the one that can has then read everything once.

        Raises:
            InvalidYaml: the configuration is wrong.
            ReloadRefused: the installed program does not start, or finds something wrong.
        """
        fresh = load(self._path, self._environment)
        unchanged = (
            fresh.settings == self._config.settings
            and self.program.installed() == self._installed
            and _files(fresh) == self._files
        )
        if unchanged:
            return False
        await self._check()
        return True

    async def _check(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self.program.argv,
                "--check",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ReloadRefused(f"{self.program.argv[0]} cannot be started: {error.strerror}") from error
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                _, complaint = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ReloadRefused(f"{self.program.argv[0]} --check did not end within {CHECK_TIMEOUT:.0f} s") from None
        if process.returncode:
            text = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
            raise ReloadRefused(text.removeprefix("Error: "))


def _files(config: AgentConfig) -> tuple[bytes | None, ...]:
    """What is read once, at the start."""
    settings = config.settings
    return _content(settings.control_plane.root_cert), _content(settings.local_xds_path)


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError:
        return None
