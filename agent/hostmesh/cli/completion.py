"""`hostmesh completion`: what a shell needs to complete hostmesh's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "hostmesh"
_VARIABLE = "_HOSTMESH_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
    bash: hostmesh completion bash > /etc/bash_completion.d/hostmesh
    zsh:  hostmesh completion zsh > /usr/local/share/zsh/site-functions/_hostmesh
    fish: hostmesh completion fish > /etc/fish/completions/hostmesh.fish
    """  # noqa: D301 - what click takes for "as written"
    click.echo(script(shell))


def script(shell: str) -> str:
    """The script of click, filled in; it asks hostmesh itself what may follow."""
    kind = get_completion_class(shell)
    assert kind is not None, f"click knows {shell}"
    complete = kind(click.Group(PROGRAM), {}, PROGRAM, _VARIABLE)
    return str(complete.source_template % complete.source_vars())
