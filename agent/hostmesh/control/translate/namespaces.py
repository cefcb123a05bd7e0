"""What objects inherit from their namespace (Kubernetes Namespace labels and annotations)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hostmesh.control.documents.namespace import Namespace
from hostmesh.control.documents.read import Object


class Namespaces:
    """Labels and annotations by namespace; a namespace without a document has none."""

    def __init__(self, objects: Iterable[Object[Namespace]]) -> None:
        self.objects = tuple(objects)
        self._objects = {item.key.name: item.resource.metadata for item in self.objects}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Namespaces) and self.objects == other.objects

    def __hash__(self) -> int:
        return hash(tuple(item.key for item in self.objects))

    def labels(self, namespace: str) -> Mapping[str, str]:
        """The namespace's labels."""
        metadata = self._objects.get(namespace)
        return metadata.labels if metadata else {}

    def annotations(self, namespace: str) -> Mapping[str, str]:
        """The namespace's annotations."""
        metadata = self._objects.get(namespace)
        return metadata.annotations if metadata else {}
