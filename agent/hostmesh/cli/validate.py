"""`hostmesh validate`: checks documents without a control plane, for editors and pipelines."""

from __future__ import annotations

from dataclasses import asdict

import click

from hostmesh.cli.files import files_option, read_files
from hostmesh.cli.output import output_option, structured
from hostmesh.config.strict_yaml import InvalidYaml, Problem
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object, check_together, read
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate


@click.command()
@files_option
@click.option("--root-namespace", default="istio-system", show_default=True, help="Where mesh-wide policies live.")
@output_option
def validate(names: tuple[str, ...], root_namespace: str, output: str) -> None:
    """Check files by themselves, without a control plane.

    Exit status 1 if one of them would be refused. `apply --dry-run` checks against what is live too.
    """
    objects: list[Object[Resource]] = []
    problems: list[Problem] = []
    for file in read_files(names):
        try:
            objects += read(file["text"], file["source"])
        except InvalidYaml as invalid:
            problems += invalid.problems
    problems += check_together(objects)
    warnings = () if problems else translate(objects, MeshConfig(root_namespace=root_namespace)).warnings
    found = {"problems": [asdict(p) for p in problems], "warnings": [asdict(w) for w in warnings]}
    if not structured(output, found):
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
        click.echo(f"{len(objects)} objects, {len(problems)} errors, {len(warnings)} warnings")
    if problems:
        raise SystemExit(1)
