"""External authorizers and access logs that documents name (Istio mesh config, `extensionProviders`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hostmesh.config.durations import parse_duration
from hostmesh.control.documents.base import PortNumber, Strict, Text
from hostmesh.control.documents.names import is_fqdn, is_ip
from hostmesh.model.telemetry import AccessLog
from hostmesh.model.waypoint import CheckedBody, ExtAuthz

_DEFAULT_TIMEOUT = 600.0
_STATUSES = range(100, 600)


def _service(value: str) -> str:
    host = value.rpartition("/")[2]
    if not is_fqdn(host) and not is_ip(host):
        raise ValueError(f"{value!r} is neither a host name like authz.default.svc.cluster.local nor an IP address")
    return value


def _timeout(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _status(value: str) -> str:
    if value and (not value.isdecimal() or int(value) not in _STATUSES):
        raise ValueError(f'{value!r} is not an HTTP status like "503"')
    return value


def _path(value: str) -> str:
    if value and not value.startswith("/"):
        raise ValueError(f"{value!r} must begin with a slash")
    return value


def _pattern(value: str) -> str:
    if not value.strip("*") or "*" in value.removeprefix("*").removesuffix("*") or value.count("*") > 1:
        raise ValueError(f"{value!r} is not a header's name, nor a beginning (x-*) or an end (*-id) of one")
    return value


Headers = list[Annotated[Text, AfterValidator(_pattern)]]


class RequestBody(Strict):
    """How much of a request's body the authorizer sees; more than that is refused unless a part will do."""

    max_request_bytes: Annotated[int, Field(ge=1, le=1 << 30)]
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class _Authorizer(Strict):
    service: Annotated[Text, AfterValidator(_service)]
    port: PortNumber
    timeout: Annotated[float, BeforeValidator(_timeout), Field(gt=0)] = _DEFAULT_TIMEOUT
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: Annotated[str, AfterValidator(_status)] = ""
    include_request_body_in_check: RequestBody | None = None


class EnvoyExtAuthzHttp(_Authorizer):
    """Asked with the request's own method and path; 200 lets it pass, any other answer is what the caller gets."""

    path_prefix: Annotated[str, AfterValidator(_path)] = ""
    include_request_headers_in_check: Headers = Field(default=[])
    include_additional_headers_in_check: dict[str, str] = Field(default={})
    headers_to_upstream_on_allow: Headers = Field(default=[])
    headers_to_downstream_on_allow: Headers = Field(default=[])
    headers_to_downstream_on_deny: Headers = Field(default=[])


class EnvoyExtAuthzGrpc(_Authorizer):
    """Asked by envoy.service.auth.v3.Authorization."""


class LogFormat(Strict):
    """A line of text, or JSON with these labels, of Envoy's command operators."""

    text: str = ""
    labels: dict[str, str] = Field(default={})

    @model_validator(mode="after")
    def _one(self) -> LogFormat:
        if self.text and self.labels:
            raise ValueError("needs one of text and labels")
        return self


class EnvoyFileAccessLog(Strict):
    """An access log of waypoints; it goes to the journal and nowhere else."""

    path: Literal["/dev/stdout"] = "/dev/stdout"
    log_format: LogFormat = LogFormat()


class ExtensionProvider(Strict):
    """One of the kinds, under the name that documents call it by."""

    name: Text
    envoy_ext_authz_http: EnvoyExtAuthzHttp | None = None
    envoy_ext_authz_grpc: EnvoyExtAuthzGrpc | None = None
    envoy_file_access_log: EnvoyFileAccessLog | None = None

    @model_validator(mode="after")
    def _one(self) -> ExtensionProvider:
        given = (self.envoy_ext_authz_http, self.envoy_ext_authz_grpc, self.envoy_file_access_log)
        if given.count(None) != len(given) - 1:
            raise ValueError("needs exactly one of envoyExtAuthzHttp, envoyExtAuthzGrpc and envoyFileAccessLog")
        return self

    @property
    def access_log(self) -> AccessLog | None:
        """As waypoints are told, if it is one."""
        log = self.envoy_file_access_log
        if log is None:
            return None
        return AccessLog(self.name, log.log_format.text, tuple(log.log_format.labels.items()))

    @property
    def authorizer(self) -> ExtAuthz | None:
        """As waypoints are told, if it is one."""
        http = self.envoy_ext_authz_http
        either = http or self.envoy_ext_authz_grpc
        if either is None:
            return None
        body = either.include_request_body_in_check
        return ExtAuthz(
            name=self.name,
            address=either.service.rpartition("/")[2],
            port=either.port,
            grpc=http is None,
            timeout=either.timeout,
            fail_open=either.fail_open,
            clear_route_cache=either.clear_route_cache,
            status_on_error=int(either.status_on_error or 403),
            body=CheckedBody(body.max_request_bytes, body.allow_partial_message, body.pack_as_bytes) if body else None,
            path_prefix=http.path_prefix if http else "",
            include_headers=tuple(http.include_request_headers_in_check) if http else (),
            additional_headers=tuple(http.include_additional_headers_in_check.items()) if http else (),
            upstream_headers=tuple(http.headers_to_upstream_on_allow) if http else (),
            downstream_headers=tuple(http.headers_to_downstream_on_allow) if http else (),
            denied_headers=tuple(http.headers_to_downstream_on_deny) if http else (),
        )
