"""Kubernetes Namespace (core v1): labels and annotations that its objects inherit."""

from __future__ import annotations

from collections.abc import Iterator

from hostmesh.control.documents.base import Finding, Resource


class Namespace(Resource):
    """Optional: a namespace exists as soon as an object names it."""

    spec: object = None


def check_namespace(_: Namespace) -> Iterator[Finding]:
    """Nothing beyond the shape."""
    yield from ()
