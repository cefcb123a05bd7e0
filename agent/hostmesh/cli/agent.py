"""`hostmesh agent`: the agent of this host, as systemd starts it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import click

from hostmesh.config.agent import DEFAULT_CONFIG, load
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.enrolment.numbers import NumbersUnreadable
from hostmesh.identity.node import NodeStoreBroken
from hostmesh.transport.listeners import BindFailed

_log = logging.getLogger("hostmesh.config")

_USER_ERRORS = (InvalidYaml, NumbersUnreadable, NodeStoreBroken, BindFailed, OSError)


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True, help="Configuration file."
)
@click.option("--check", is_flag=True, help="Read the configuration and workloads.d, say what is wrong, and end.")
@click.option("--host", is_flag=True, help="With --check: ask this host, too, whether it has the units and users.")
def agent(config: Path, check: bool, host: bool) -> None:
    """Run this host's agent: capture, proxy, certificates.

    Exit status 1 if the configuration is wrong or the host cannot do what it says.
    """
    try:
        settings = load(config, os.environ)
    except InvalidYaml as error:
        raise click.ClickException(str(error)) from error
    # Here, so that a mistake in the configuration is told at once.
    from hostmesh.daemon.agent import Agent
    from hostmesh.daemon.handover import receive
    from hostmesh.daemon.local_mode import local_mesh
    from hostmesh.daemon.logs import LogSink
    from hostmesh.daemon.reload import ReloadJudge
    from hostmesh.enrolment import workloads_d
    from hostmesh.enrolment.capture_settings import HostView
    from hostmesh.enrolment.reading import ask_host
    from hostmesh.kernel.memory import use_one_arena
    from hostmesh.kernel.process import raise_descriptor_limit
    from hostmesh.kernel.program import Program
    from hostmesh.kernel.units import SystemdUnavailable

    if check:
        try:
            enrolled = workloads_d.read(settings.settings.workloads_dir)
            local_mesh(settings)
            if host:
                ask_host(enrolled, settings.settings.trust_domain, HostView())
        except (InvalidYaml, SystemdUnavailable) as error:
            raise click.ClickException(str(error)) from error
        click.echo("the configuration is right")
        return

    async def run() -> None:
        before = receive(os.environ)
        judge = ReloadJudge(settings, config, dict(os.environ), Program.current())
        sink = LogSink(settings.settings.log.format, settings.settings.log.level)
        if settings.without_effect:
            _log.warning("variables of ztunnel without effect on a host: %s", ", ".join(settings.without_effect))
        await Agent(settings, sink, judge, before).run()

    gc.freeze()
    use_one_arena()
    raise_descriptor_limit()
    complaints: list[str] = []
    try:
        asyncio.run(run())
    except* _USER_ERRORS as group:
        # What is raised in here would be wrapped in a group again, which click does not know.
        complaints = [_text(error) for error in _leaves(group)]
    if complaints:
        raise click.ClickException("\n".join(complaints))


def _text(error: BaseException) -> str:
    """What the user reads; an error of the system's own says which file, and not its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
