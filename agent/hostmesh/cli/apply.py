"""`hostmesh apply`, `diff` and `delete`: kubectl's verbs over the control plane's socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from hostmesh.cli.client import Client, problem_line, socket_option
from hostmesh.cli.files import files_option, read_files
from hostmesh.cli.kinds import document_kind
from hostmesh.cli.output import output_option, structured
from hostmesh.control.documents.base import DRY_RUN

_DIFFERENT = 1


class _CannotTell(click.ClickException):
    exit_code = 2


@click.command()
@files_option
@click.option("--dry-run", is_flag=True, help="Check everything against what is live, change nothing.")
@click.option(
    "--as",
    "file_name",
    default="",
    metavar="NAME.yaml",
    help="Make the one file that is given this file of documents, as a whole: what it held before and does not now is "
    "deleted.",
)
@click.option(
    "--audit",
    is_flag=True,
    help="Have AuthorizationPolicies judge and tell, and refuse nobody: agents log what they would have refused.",
)
@output_option
@socket_option
def apply(names: tuple[str, ...], dry_run: bool, file_name: str, audit: bool, output: str, path: Path) -> None:
    """Create or change objects: all of them, or on any mistake none."""
    client, files = Client(path), read_files(names)
    if audit:
        # What is wrong is told with the lines that somebody wrote, not with those of what becomes of them.
        client.apply(files, dry_run=True)
        files = [{**file, "text": on_trial(file["text"])} for file in files]
    result = client.apply(files, dry_run=dry_run, file_name=file_name)
    _print(result, output, dry_run=dry_run)


@click.command()
@files_option
@output_option
@socket_option
def diff(names: tuple[str, ...], output: str, path: Path) -> None:
    """Show what apply would change.

    Exit status 0 if nothing, 1 if something, 2 if that cannot be told.
    """
    try:
        result = Client(path).diff(read_files(names))
    except click.ClickException as error:
        raise _CannotTell(error.message) from error
    if not structured(output, result):
        for outcome in result["outcomes"]:
            click.echo(outcome["diff"], nl=False)
    if any(outcome["action"] != "unchanged" for outcome in result["outcomes"]):
        raise SystemExit(_DIFFERENT)


@click.command()
@click.argument("kind", type=document_kind)
@click.argument("name")
@click.option("-n", "--namespace", default="default", show_default=True, help="Where it is.")
@click.option("--dry-run", is_flag=True, help="Change nothing.")
@output_option
@socket_option
def delete(kind: str, name: str, namespace: str, dry_run: bool, output: str, path: Path) -> None:
    """Delete an object."""
    result = Client(path).delete(kind, "" if kind == "Namespace" else namespace, name, dry_run=dry_run)
    _print(result, output, dry_run=dry_run)


def on_trial(text: str) -> str:
    """The same documents, with Istio's annotation of a dry run on every AuthorizationPolicy."""
    documents = [one for one in yaml.safe_load_all(text) if one is not None]
    for one in documents:
        if one.get("kind") == "AuthorizationPolicy":
            metadata = one["metadata"]
            metadata["annotations"] = {**(metadata.get("annotations") or {}), DRY_RUN: "true"}
    return str(yaml.safe_dump_all(documents, sort_keys=False))


def _print(result: dict[str, Any], output: str, *, dry_run: bool) -> None:
    for warning in result["warnings"]:
        click.echo(f"warning: {problem_line(warning)}", err=True)
    if structured(output, result):
        return
    for outcome in result["outcomes"]:
        name = "/".join(filter(None, (outcome["kind"], outcome["namespace"], outcome["name"])))
        click.echo(f"{name} {outcome['action']}{' (dry run)' if dry_run else ''}")
