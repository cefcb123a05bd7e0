"""What all kinds share: metadata (Kubernetes ObjectMeta), selectors, and findings about a field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.names import (
    is_dns_label,
    is_dns_subdomain,
    label_key_complaint,
    label_value_complaint,
)
from hostmesh.model.node import RESERVED_NAMESPACES

DRY_RUN = "istio.io/dry-run"
NODE_LABEL = "hostmesh.io/node"

PortNumber = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """camelCase fields as in YAML, none unknown, no type ever coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, defer_build=True)


class Metadata(Strict):
    """Who an object is. What an API server fills in is accepted and, but for the creation time, ignored."""

    name: Text
    namespace: str = ""
    labels: dict[str, str] = Field(default={})
    annotations: dict[str, str] = Field(default={})
    creation_timestamp: datetime | str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    self_link: str = ""
    managed_fields: object = None
    owner_references: object = None
    finalizers: object = None


class Resource(Strict):
    """One object of any kind."""

    api_version: str
    kind: str
    metadata: Metadata
    status: object = None


class Selector(Strict):
    """Chooses workloads of a namespace by label; without labels it chooses all of them."""

    match_labels: dict[str, str] = Field(default={})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something said about one field. Fatal findings refuse the document, the others are warnings."""

    path: Path
    why: str
    fatal: bool = True


def warning(path: Path, why: str) -> Finding:
    """A finding that lets the document pass."""
    return Finding(path, why, fatal=False)


def check_metadata(resource: Resource, *, namespaced: bool, dry_run: bool) -> Iterator[Finding]:
    """Names and labels.

    Args:
        resource: the object.
        namespaced: whether its kind lives in namespaces.
        dry_run: whether its kind knows the dry-run annotation.
    """
    metadata = resource.metadata
    if not is_dns_subdomain(metadata.name):
        yield Finding(("metadata", "name"), _name_rule(metadata.name))
    yield from _check_namespace(resource, namespaced=namespaced)
    yield from check_labels(metadata.labels, ("metadata", "labels"))
    for key in metadata.annotations:
        if complaint := label_key_complaint(key):
            yield Finding(("metadata", "annotations", key), complaint)
    if DRY_RUN in metadata.annotations and not dry_run:
        why = f"{resource.kind} has no dry run; only AuthorizationPolicy has. Remove the annotation"
        yield Finding(("metadata", "annotations", DRY_RUN), why)


def check_labels(labels: Mapping[str, str], path: Path) -> Iterator[Finding]:
    """Keys and values of a label map."""
    for key, value in labels.items():
        for complaint in (label_key_complaint(key), label_value_complaint(value)):
            if complaint:
                yield Finding((*path, key), complaint)


def check_selector(labels: Mapping[str, str], path: Path) -> Iterator[Finding]:
    """A policy's selector: real labels, no wildcards; empty means the whole namespace."""
    if not labels:
        why = "selects by no label: the policy applies to the whole namespace. Remove the selector to say so plainly"
        yield warning(path, why)
    for key, value in labels.items():
        if not key:
            yield Finding((*path, "matchLabels", key), "the key is empty")
        elif "*" in key or "*" in value:
            yield Finding(
                (*path, "matchLabels", key), "wildcards are not supported in a selector; name the label's exact value"
            )
        else:
            yield from check_labels({key: value}, (*path, "matchLabels"))


def _check_namespace(resource: Resource, *, namespaced: bool) -> Iterator[Finding]:
    path: Path = ("metadata", "namespace")
    namespace = resource.metadata.namespace if namespaced else resource.metadata.name
    if not namespaced and resource.metadata.namespace:
        yield Finding(path, f"{resource.kind} does not live in a namespace; remove the field")
    elif namespaced and namespace and not is_dns_label(namespace):
        yield Finding(path, _name_rule(namespace))
    if namespace in RESERVED_NAMESPACES:
        why = f"the namespace {namespace!r} is reserved for the identities of nodes; choose another"
        yield Finding(path if namespaced else ("metadata", "name"), why)


def _name_rule(name: str) -> str:
    return (
        f"{name!r} is not a DNS name (lower-case letters, digits and '-', starting and ending with one of the former)"
    )
