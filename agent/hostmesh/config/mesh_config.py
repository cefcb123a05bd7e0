"""Istio's mesh config file and PROXY_CONFIG: the few fields of `defaultConfig` that a node proxy reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hostmesh.config import own_metadata
from hostmesh.config.layer import Layer
from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, load_documents, parse

MESH_CONFIG = Path("/etc/istio/config/mesh")

_METADATA = "ISTIO_META_"

Port = Annotated[int, Field(ge=1, le=65535)]


class _ProxyConfig(BaseModel):
    """Istio has many more fields for other proxies: they are none of ours, and no mistake."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    discovery_address: str | None = Field(None, alias="discoveryAddress")
    admin_port: Port | None = Field(None, alias="proxyAdminPort")
    stats_port: Port | None = Field(None, alias="statsPort")
    concurrency: Annotated[int, Field(ge=0)] | None = None
    metadata: dict[str, str] = Field(default_factory=dict, alias="proxyMetadata")


class _MeshConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    default_config: _ProxyConfig = Field(default_factory=_ProxyConfig, alias="defaultConfig")


_SETTINGS = (
    ("discovery_address", "discoveryAddress", "control_plane.address"),
    ("admin_port", "proxyAdminPort", "ports.admin"),
    ("stats_port", "statsPort", "ports.stats"),
    ("concurrency", "concurrency", "workers"),
)


def layer(environment: Mapping[str, str], file: Path = MESH_CONFIG) -> Layer:
    """What both say; PROXY_CONFIG wins. A file that is not there says nothing.

    Raises:
        InvalidYaml: not readable, or a field that we read has the wrong type.
    """
    said = Layer()
    for document in _documents(file):
        _take(said, document, parse(document, _MeshConfig).default_config, ("defaultConfig",))
    for document in load_documents(environment.get("PROXY_CONFIG", ""), "$PROXY_CONFIG"):
        _take(said, document, parse(document, _ProxyConfig), ())
    said.check()
    return said


def _documents(file: Path) -> list[Document]:
    try:
        return load_documents(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidYaml([Problem(str(file), 0, "", f"cannot be read: {error}")]) from error


def _take(said: Layer, document: Document, config: _ProxyConfig, prefix: tuple[str, ...]) -> None:
    for name, alias, setting in _SETTINGS:
        value: Any = getattr(config, name)
        if value is not None:
            said.put(setting, value, _source(document, (*prefix, alias)))
    for name, value in config.metadata.items():
        if name.startswith(_METADATA):
            source = _source(document, (*prefix, "proxyMetadata", name))
            own_metadata.put(said, name.removeprefix(_METADATA), value, source)


def _source(document: Document, path: tuple[str, ...]) -> str:
    return f"{document.source}:{document.line(path)}"
