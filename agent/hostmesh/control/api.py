"""The operator's door: HTTP with JSON on a unix socket, which the CLI speaks. Who may open the socket may do all.

`POST /v1/apply` and `POST /v1/diff` take `{"files": [{"source", "text"}]}`; with `"file_name"` applying one file makes
it the whole content of that file of documents. `GET /v1/objects/<kind>`, with
`namespace` and `name` as query; `DELETE /v1/objects/<kind>/<namespace or ->/<name>`; `GET /v1/mesh`; `GET /v1/status`.
Errors are `{"error", "problems": [{"source", "line", "field", "why"}]}`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from hostmesh.admin.dump import EndpointView, policy_json, service_json, workload_json
from hostmesh.config.strict_yaml import InvalidYaml, suggest
from hostmesh.control.apply import Input, Refused, Result
from hostmesh.control.audit import AuditLog
from hostmesh.control.ca import CaBroken
from hostmesh.control.ca_api import CaApi
from hostmesh.control.directory import MAX_BYTES, DirectoryUnusable
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import KINDS, Object, ObjectKey, text_keys
from hostmesh.control.enrolment_api import EnrolmentApi
from hostmesh.control.live import LiveDocuments
from hostmesh.control.request import RequestModel, caller_uid, read_body
from hostmesh.control.translate import Translation
from hostmesh.control.trust import NotNow

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _File(RequestModel):
    source: str
    text: str


class _Apply(RequestModel):
    files: list[_File]
    dry_run: bool = False
    file_name: str = ""


class Api:
    """Routes of the operator's socket.

    Args:
        live: the documents.
        enrolment: its part of the door.
        audit: every change and every token is recorded with the uid that asked.
        status: further facts for `GET /v1/status`, as JSON values.
        ca: the certificate authority's part of the door.
    """

    def __init__(
        self,
        live: LiveDocuments,
        enrolment: EnrolmentApi,
        audit: AuditLog,
        status: Callable[[], Mapping[str, Any]],
        ca: CaApi | None = None,
    ) -> None:
        self._live = live
        self._enrolment = enrolment
        self._audit = audit
        self._status = status
        self._ca = ca

    def application(self) -> web.Application:
        """For an aiohttp runner."""
        app = web.Application(middlewares=[_errors], client_max_size=4 * MAX_BYTES)
        app.add_routes(
            [
                web.post("/v1/apply", self._apply),
                web.post("/v1/diff", self._diff),
                web.get("/v1/objects/{kind}", self._get),
                web.delete("/v1/objects/{kind}/{namespace}/{name}", self._delete),
                web.get("/v1/mesh", self._mesh),
                web.get("/v1/status", self._get_status),
                *self._enrolment.routes(),
                *(self._ca.routes() if self._ca is not None else ()),
            ]
        )
        return app

    async def _apply(self, request: web.Request) -> web.Response:
        body = await read_body(request, _Apply)
        if not body.dry_run:
            self._audit.record(
                "apply",
                result="requested",
                uid=caller_uid(request),
                files=", ".join(file.source for file in body.files),
            )
        return web.json_response(_result(await self._carry_out(body)))

    async def _carry_out(self, body: _Apply) -> Result:
        if not body.file_name:
            return await self._live.apply(_inputs(body), dry_run=body.dry_run)
        if len(body.files) != 1:
            raise Refused(f"{body.file_name} can be one file, and {len(body.files)} were given")
        return await self._live.replace(body.file_name, _inputs(body)[0], dry_run=body.dry_run)

    async def _diff(self, request: web.Request) -> web.Response:
        body = await read_body(request, _Apply)
        return web.json_response(_result(await self._live.apply(_inputs(body), dry_run=True)))

    async def _get(self, request: web.Request) -> web.Response:
        kind = _kind(request)
        namespace, name = request.query.get("namespace"), request.query.get("name")
        current = self._live.current
        items = [
            _object(item)
            for key, item in (current.objects if current else {}).items()
            if key.kind == kind and namespace in (None, key.namespace) and name in (None, key.name)
        ]
        if name is not None and not items:
            where = f" in namespace {namespace}" if namespace else ""
            raise Refused(f"{kind} {name!r} is not there{where}; `hostmesh get {kind.lower()}` lists what is")
        return web.json_response({"items": items})

    async def _delete(self, request: web.Request) -> web.Response:
        namespace = request.match_info["namespace"]
        key = ObjectKey(_kind(request), "" if namespace == "-" else namespace, request.match_info["name"])
        dry_run = request.query.get("dry_run") == "true"
        if not dry_run:
            self._audit.record("delete", result="requested", uid=caller_uid(request), object=str(key))
        return web.json_response(_result(await self._live.delete(key, dry_run=dry_run)))

    async def _mesh(self, _: web.Request) -> web.Response:
        told = self._live.told
        return web.json_response(_mesh(told) if told else {})

    async def _get_status(self, _: web.Request) -> web.Response:
        current = self._live.current
        documents = {
            "objects": len(current.objects) if current else 0,
            "live": current is not None,
            "problems": [dataclasses.asdict(problem) for problem in self._live.problems],
            "warnings": [dataclasses.asdict(warning) for warning in current.translation.warnings] if current else [],
        }
        return web.json_response({**self._status(), "documents": documents})


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InvalidYaml as invalid:
        problems = [dataclasses.asdict(problem) for problem in invalid.problems]
        return web.json_response({"error": "not valid; nothing was changed", "problems": problems}, status=422)
    except (Refused, NotNow) as refused:
        return web.json_response({"error": str(refused)}, status=409)
    except (DirectoryUnusable, CaBroken) as unusable:
        return web.json_response({"error": f"{unusable}; nothing was changed"}, status=507)
    except OSError as error:
        where = error.filename or "the state directory"
        return web.json_response({"error": f"{where}: {error.strerror}; nothing was changed"}, status=507)


def _inputs(body: _Apply) -> list[Input]:
    return [Input(file.source, file.text) for file in body.files]


def _kind(request: web.Request) -> str:
    kind = request.match_info["kind"]
    if kind not in KINDS:
        raise Refused(f"unknown kind {kind!r}; {suggest(kind, KINDS)}")
    return kind


def _result(result: Result) -> dict[str, Any]:
    outcomes = [
        {**_key(outcome.key), "action": outcome.action, "file": str(outcome.file), "diff": outcome.difference}
        for outcome in result.outcomes
    ]
    return {"outcomes": outcomes, "warnings": [dataclasses.asdict(warning) for warning in result.warnings]}


def _object(item: Object[Resource]) -> dict[str, Any]:
    value = json.loads(json.dumps(text_keys(item.document.value), default=str))
    return {**_key(item.key), "where": item.where, "object": value}


def _key(key: ObjectKey) -> dict[str, str]:
    return dataclasses.asdict(key)


def _mesh(translation: Translation) -> dict[str, Any]:
    endpoints: dict[str, list[EndpointView]] = {}
    for workload in translation.workloads:
        for service, ports in workload.services.items():
            endpoints.setdefault(str(service), []).append(EndpointView(workload.uid, ports, workload.status.value))
    return {
        "workloads": [workload_json(workload) for workload in translation.workloads],
        "services": [service_json(service, endpoints.get(service.key, ())) for service in translation.services],
        "policies": [policy_json(policy) for policy in translation.authorizations],
    }
