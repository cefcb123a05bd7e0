"""The `health` of a registration in workloads.d: Istio's ReadinessProbe, with its names and defaults."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hostmesh.model.health import Check, ExecProbe, HttpProbe, TcpProbe

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

Port = Annotated[int, Field(ge=1, le=65535)]


def _visible(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("must be printable ASCII")
    return value


def _path(value: str) -> str:
    if not value.startswith("/") or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be a path like /healthz, without spaces")
    return value


def _token(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError("is not the name of a header")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Header(_Strict):
    name: Annotated[str, AfterValidator(_token)]
    value: Annotated[str, AfterValidator(_visible), Field(max_length=1024)]


class _HttpGet(_Strict):
    port: Port
    path: Annotated[str, AfterValidator(_path), Field(max_length=2048)] = "/"
    host: Annotated[str, AfterValidator(_visible), Field(min_length=1, max_length=253)] = "127.0.0.1"
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    httpHeaders: Annotated[list[_Header], Field(max_length=32)] = []  # noqa: N815 -- Istio's name


class _TcpSocket(_Strict):
    port: Port
    host: Annotated[str, AfterValidator(_visible), Field(min_length=1, max_length=253)] = "127.0.0.1"


class _Exec(_Strict):
    command: Annotated[list[str], Field(min_length=1, max_length=64)]


class Health(_Strict):
    """Exactly one of httpGet, tcpSocket and exec; times in seconds."""

    initialDelaySeconds: Annotated[float, Field(ge=0, le=3600)] = 0  # noqa: N815 -- Istio's names
    timeoutSeconds: Annotated[float, Field(gt=0, le=60)] = 1  # noqa: N815
    periodSeconds: Annotated[float, Field(ge=0.1, le=3600)] = 10  # noqa: N815
    successThreshold: Annotated[int, Field(ge=1, le=100)] = 1  # noqa: N815
    failureThreshold: Annotated[int, Field(ge=1, le=100)] = 3  # noqa: N815
    httpGet: _HttpGet | None = None  # noqa: N815
    tcpSocket: _TcpSocket | None = None  # noqa: N815
    exec: _Exec | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Health:
        if sum(one is not None for one in (self.httpGet, self.tcpSocket, self.exec)) != 1:
            raise ValueError("must have exactly one of httpGet, tcpSocket and exec")
        return self

    def check(self) -> Check:
        """As the prober wants it."""
        return Check(
            self._probe(),
            initial_delay=self.initialDelaySeconds,
            timeout=self.timeoutSeconds,
            period=self.periodSeconds,
            success_threshold=self.successThreshold,
            failure_threshold=self.failureThreshold,
        )

    def _probe(self) -> TcpProbe | HttpProbe | ExecProbe:
        if self.httpGet is not None:
            http = self.httpGet
            headers = tuple((header.name, header.value) for header in http.httpHeaders)
            return HttpProbe(http.port, http.host, http.path, headers, tls=http.scheme == "HTTPS")
        if self.tcpSocket is not None:
            return TcpProbe(self.tcpSocket.port, self.tcpSocket.host)
        assert self.exec is not None, "one of them is there"
        return ExecProbe(tuple(self.exec.command))
