"""The enrolment's part of the operator's door: join tokens, and the host keys by which hosts are known.

`POST /v1/tokens` takes `{"node", "ttl", "host_key", "addresses"}`; `GET /v1/tokens`; `DELETE /v1/tokens/<id>`;
`POST /v1/bearer-tokens` takes `{"namespace", "service_account", "ttl"}`; `GET /v1/jwks`;
`POST /v1/nodes` takes `{"name", "host_keys", "replace"}` with keys as lines of `.pub` files; `GET /v1/nodes`;
`DELETE /v1/nodes/<name>`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from pydantic import Field

from hostmesh.control import bearer
from hostmesh.control.apply import Refused
from hostmesh.control.audit import AuditLog
from hostmesh.control.bearer import BearerTokens
from hostmesh.control.nodes import MAX_KEYS, NodeRecord, NodeRegistry
from hostmesh.control.offload import Run, inline
from hostmesh.control.request import RequestModel, caller_uid, read_body
from hostmesh.control.tokens import DEFAULT_TTL, TokenRecord, TokenStore
from hostmesh.wire.ssh_key import SshPublicKey

_MAX_LOGGED = 256


class _Token(RequestModel):
    node: str
    ttl: float = Field(default=DEFAULT_TTL)
    host_key: str = ""
    addresses: list[str] = Field(default=[], max_length=64)


class _Bearer(RequestModel):
    namespace: str
    service_account: str
    ttl: float = Field(default=bearer.DEFAULT_TTL)


class _Node(RequestModel):
    name: str
    host_keys: list[str] = Field(max_length=MAX_KEYS)
    replace: bool = False


class EnrolmentApi:
    """Routes about who may become a node.

    Args:
        tokens: join tokens.
        nodes: registered host keys.
        bearers: tokens of stock proxies.
        audit: every request is recorded with the uid that asked, before it is done.
        now: seconds since the epoch.
        run: runs what writes.
    """

    def __init__(
        self,
        tokens: TokenStore,
        nodes: NodeRegistry,
        bearers: BearerTokens,
        audit: AuditLog,
        now: Callable[[], float] = time.time,
        *,
        run: Run = inline,
    ) -> None:
        self._tokens = tokens
        self._nodes = nodes
        self._bearers = bearers
        self._audit = audit
        self._now = now
        self._run = run

    def routes(self) -> Iterable[web.RouteDef]:
        """For the application."""
        return (
            web.post("/v1/tokens", self._mint),
            web.get("/v1/tokens", self._list_tokens),
            web.delete("/v1/tokens/{id}", self._revoke),
            web.post("/v1/bearer-tokens", self._mint_bearer),
            web.get("/v1/jwks", self._jwks),
            web.post("/v1/nodes", self._add),
            web.get("/v1/nodes", self._list_nodes),
            web.delete("/v1/nodes/{name}", self._remove),
        )

    async def _mint(self, request: web.Request) -> web.Response:
        body = await read_body(request, _Token)
        self._audit.record(
            "token",
            result="requested",
            uid=caller_uid(request),
            node=body.node,
            ttl=body.ttl,
            host_key=body.host_key,
            addresses=", ".join(body.addresses),
        )
        try:
            token = await self._run(
                lambda: self._tokens.mint(body.node, body.ttl, host_key=body.host_key, addresses=body.addresses)
            )
        except ValueError as error:
            raise Refused(str(error)) from error
        return web.json_response({"token": token, "node": body.node, "ttl": body.ttl})

    async def _mint_bearer(self, request: web.Request) -> web.Response:
        body = await read_body(request, _Bearer)
        subject = f"{body.namespace}/{body.service_account}"[:_MAX_LOGGED]
        self._audit.record("bearer token", result="requested", uid=caller_uid(request), subject=subject, ttl=body.ttl)
        try:
            token = self._bearers.mint(body.namespace, body.service_account, body.ttl)
        except ValueError as error:
            raise Refused(str(error)) from error
        return web.json_response({"token": token, "ttl": body.ttl, "issuer": self._bearers.issuer})

    async def _jwks(self, _: web.Request) -> web.Response:
        return web.json_response(self._bearers.jwks())

    async def _list_tokens(self, _: web.Request) -> web.Response:
        return web.json_response({"tokens": [self._token(record) for record in self._tokens.records()]})

    async def _revoke(self, request: web.Request) -> web.Response:
        identifier = request.match_info["id"]
        self._audit.record("token", result="revocation requested", uid=caller_uid(request), token=identifier[:64])
        record = await self._run(lambda: self._tokens.revoke(identifier))
        if record is None:
            raise Refused(f"there is no join token {identifier!r}; `hostmesh token list` shows which there are")
        return web.json_response(self._token(record))

    async def _add(self, request: web.Request) -> web.Response:
        body = await read_body(request, _Node)
        try:
            keys = [SshPublicKey.parse(line) for line in body.host_keys]
            self._check_changes(body, keys, caller_uid(request))
            changed = await self._run(lambda: self._nodes.add(body.name, keys, replace=body.replace))
        except ValueError as error:
            raise Refused(str(error)) from error
        record = self._nodes.get(body.name)
        assert record is not None, "it was just added"
        return web.json_response({**_node(record), "changed": changed})

    def _check_changes(self, body: _Node, keys: list[SshPublicKey], uid: int) -> None:
        """Only what changes something is worth a line: playbooks say the same every day."""
        known = self._nodes.get(body.name)
        held = set(known.keys) if known is not None and known.source == "operator" else set()
        if held != set(keys) if body.replace else not held.issuperset(keys):
            self._audit.record(
                "node",
                result="registration requested",
                uid=uid,
                node=body.name[:256],
                keys=", ".join(key.fingerprint for key in keys),
                replace=body.replace,
            )

    async def _list_nodes(self, _: web.Request) -> web.Response:
        return web.json_response({"nodes": [_node(record) for record in self._nodes.records()]})

    async def _remove(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self._nodes.get(name) is None:
            raise Refused(f"node {name!r} is not registered; `hostmesh node list` shows which are")
        self._audit.record("node", result="removal requested", uid=caller_uid(request), node=name)
        await self._run(lambda: self._nodes.remove(name))
        return web.json_response({"name": name})

    def _token(self, record: TokenRecord) -> dict[str, Any]:
        return {
            "id": record.id,
            "node": record.node,
            "state": record.state(self._now()),
            "minted": record.minted,
            "expires": record.expires,
            "host_key": record.host_key,
            "addresses": list(record.addresses),
        }


def _node(record: NodeRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "host_keys": [{"key": str(key), "fingerprint": key.fingerprint} for key in record.keys],
        "source": record.source,
        "changed_at": record.changed,
    }
