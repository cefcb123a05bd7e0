"""`hostmesh manual`: the man pages of every command, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from hostmesh import __version__

_SECTION = "1"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def manual(context: click.Context, folder: Path) -> None:
    """Write a man page for each command into FOLDER."""
    root = context.find_root()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(root.command):
        (folder / f"{name}.{_SECTION}").write_text(text, encoding="utf-8")


def pages(command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Name and roff text of a command's page, and of everything below it."""
    name = "hostmesh" if parent is None else command.name
    context = click.Context(command, parent=parent, info_name=name)
    yield context.command_path.replace(" ", "-"), _page(context)
    for below in _below(context):
        yield from pages(below, context)


def _below(context: click.Context) -> list[click.Command]:
    command = context.command
    if not isinstance(command, click.Group):
        return []
    found = [command.get_command(context, name) for name in command.list_commands(context)]
    return [one for one in found if one is not None and not one.hidden]


def _page(context: click.Context) -> str:
    path, command = context.command_path, context.command
    title = path.replace(" ", "-")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{title.upper()}" "{_SECTION}" "" "hostmesh {__version__}" "hostmesh"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_text(path)}\\fR {_text(usage)}",
        ".SH DESCRIPTION",
        *_paragraphs(inspect.cleandoc(command.help or "")),
    ]
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    options = [record for record in records if record is not None and record[1]]
    if options:
        lines.append(".SH OPTIONS")
        for flags, text in options:
            lines += [".TP", f"\\fB{_text(flags)}\\fR", _text(text)]
    below = _below(context)
    if below:
        lines.append(".SH COMMANDS")
        for one in below:
            lines += [".TP", f"\\fB{_text(one.name or '')}\\fR", _text(one.get_short_help_str(200))]
        lines += [
            ".SH SEE ALSO",
            ", ".join(f"\\fB{_text(title)}\\-{_text(one.name or '')}\\fR({_SECTION})" for one in below),
        ]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        verbatim = paragraph.startswith("\b")
        yield ".PP"
        yield from (".nf",) if verbatim else ()
        yield from (_text(line) for line in paragraph.removeprefix("\b").strip("\n").splitlines())
        yield from (".fi",) if verbatim else ()


def _text(text: str) -> str:
    """Text as roff takes it: hyphens stay hyphens, no line is a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped
