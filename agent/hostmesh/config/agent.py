"""AgentConfig: agent.yaml and conf.d/ over ztunnel's environment variables over Istio's mesh config, with sources."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hostmesh.config import environment as variables
from hostmesh.config import mesh_config
from hostmesh.config.layer import Layer
from hostmesh.config.proxy import ProxyConfig
from hostmesh.config.settings import PART, Contradiction, Settings
from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, load_documents, parse

DEFAULT_CONFIG = Path("/etc/hostmesh/agent.yaml")


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The settings, and for each one that was set: by which file and line or variable.

    `without_effect` are variables that ztunnel would heed.
    """

    settings: Settings
    sources: Mapping[str, str] = field(default_factory=dict)
    without_effect: tuple[str, ...] = ()

    @property
    def node(self) -> str:
        """This host's name in the mesh; the kernel's host name unless the file says otherwise."""
        return self.settings.node or os.uname().nodename

    @property
    def workers(self) -> int:
        """How many proxy workers to run; 0 in the file means one for each core."""
        return self.settings.workers or len(os.sched_getaffinity(0))

    def proxy(self) -> ProxyConfig:
        """What the workers get of it."""
        s = self.settings
        return ProxyConfig(
            node=self.node,
            network=s.network,
            cluster_id=s.cluster_id,
            trust_domain=s.trust_domain,
            tls_engine=s.tls.engine,
            stream_window=s.http2.stream_window,
            connection_window=s.http2.connection_window,
            max_frame_size=s.http2.max_frame_size,
            pool_max_streams=s.pool_max_streams,
            pool_unused_release=s.pool_unused_release,
            tcp_keepalive=s.sockets.keepalive,
            tcp_keepalive_time=s.sockets.keepalive_time,
            tcp_keepalive_interval=s.sockets.keepalive_interval,
            tcp_keepalive_probes=s.sockets.keepalive_retries,
            tcp_user_timeout=s.sockets.user_timeout,
            response_baggage=s.response_baggage,
            original_source=s.original_source,
            shared_inbound=s.certificates.shared_inbound,
        )

    def effective(self) -> dict[str, tuple[Any, str]]:
        """Every setting by its dotted name: its value, as JSON has it, and where that comes from."""
        values = {name: (value, self.sources.get(name, "default")) for name, value in _leaves(self.settings)}
        if not self.settings.node:
            values["node"] = (self.node, "this host's name")
        if not self.settings.workers:
            values["workers"] = (self.workers, f"one for each core ({values['workers'][1]})")
        return values


def load(path: Path, environment: Mapping[str, str], mesh_file: Path = mesh_config.MESH_CONFIG) -> AgentConfig:
    """Read the file, its `conf.d` beside it and the environment; a missing default file is fine.

    Raises:
        InvalidYaml: with every problem found; nothing is half-read.
    """
    joined = variables.layer(environment).over(mesh_config.layer(environment, mesh_file))
    for document in _files(path):
        joined = _layer(document).over(joined)
    try:
        settings = Settings.model_validate(joined.nested())
    except ValidationError as error:
        raise InvalidYaml(_problem(joined, dict(detail)) for detail in error.errors()) from error
    return AgentConfig(settings, joined.sources, variables.without_effect(environment))


def _problem(joined: Layer, detail: Mapping[str, Any]) -> Problem:
    name, message = ".".join(map(str, detail["loc"])), str(detail["msg"]).removeprefix("Value error, ")
    said = f"{message[:1].lower()}{message[1:]} (got {detail['input']!r})" if name else message
    contradiction = detail.get("ctx", {}).get("error")
    if isinstance(contradiction, Contradiction):
        name = contradiction.setting
    return Problem(joined.sources.get(name, "settings"), 0, name, said)


def _files(path: Path) -> list[Document]:
    documents: list[Document] = []
    conf_d = path.parent / "conf.d"
    for file in [path, *sorted(conf_d.glob("*.yaml"))]:
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if file == DEFAULT_CONFIG:
                continue
            raise InvalidYaml([Problem(str(file), 1, "", "no such file; give its path with --config")]) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidYaml([Problem(str(file), 1, "", f"cannot be read: {error}")]) from error
        documents += load_documents(text, str(file))
    return documents


def _layer(document: Document) -> Layer:
    if not isinstance(document.value, dict):
        raise InvalidYaml([document.problem((), "must be a mapping of settings, like `node: host1`")])
    parse(document, Settings, context=PART)
    said = Layer()
    for path, line in document.lines.items():
        keys = tuple(str(part) for part in path if not isinstance(part, int))
        value = _get(document.value, path)
        if path and len(keys) == len(path) and not isinstance(value, dict):
            said.put(".".join(keys), value, f"{document.source}:{line}")
    return said


def _get(value: Any, path: tuple[str | int, ...]) -> Any:  # noqa: ANN401 -- whatever YAML holds
    for part in path:
        value = value[part]
    return value


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    plain = model.model_dump(mode="json")
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            yield from ((f"{prefix}{name}.{key}", one) for key, one in value.items())
        else:
            yield f"{prefix}{name}", plain[name]
