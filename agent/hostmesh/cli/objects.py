"""Read the mesh's documents from files that a user names."""

from __future__ import annotations

from collections.abc import Iterable

import click

from hostmesh.cli.files import read_files
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object, read


def read_objects(names: Iterable[str]) -> list[Object[Resource]]:
    """Every document of the files.

    Raises:
        click.ClickException: with every problem, file:line:field.
    """
    objects: list[Object[Resource]] = []
    try:
        for file in read_files(names):
            objects += read(file["text"], file["source"])
    except InvalidYaml as invalid:
        raise click.ClickException(str(invalid)) from invalid
    return objects
