"""The CLI's side of the control plane's unix socket: requests, and errors as users should read them."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

Json = dict[str, Any]

DEFAULT_SOCKET = Path("/run/hostmesh-control-plane/control.sock")
_TIMEOUT = 60.0


class ControlPlaneUnreachable(click.ClickException):
    """Nobody answers on the socket."""


class RequestRefused(click.ClickException):
    """The control plane says no; the message holds every problem, one a line."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("control-plane", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """One control plane, by its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def apply(self, files: list[dict[str, str]], *, dry_run: bool, file_name: str = "") -> Json:
        """Create and change objects; `files` are `source` and `text`; with `file_name` one is to be just that file."""
        return self._request("POST", "/v1/apply", {"files": files, "dry_run": dry_run, "file_name": file_name})

    def diff(self, files: list[dict[str, str]]) -> Json:
        """What apply would change."""
        return self._request("POST", "/v1/diff", {"files": files})

    def objects(self, kind: str, namespace: str | None, name: str | None) -> list[Json]:
        """Live documents of a kind."""
        query = urlencode({k: v for k, v in (("namespace", namespace), ("name", name)) if v is not None})
        items: list[Json] = self._request("GET", f"/v1/objects/{kind}?{query}")["items"]
        return items

    def delete(self, kind: str, namespace: str, name: str, *, dry_run: bool) -> Json:
        """Remove an object; `namespace` is empty for kinds without."""
        path = f"/v1/objects/{kind}/{quote(namespace or '-', safe='')}/{quote(name, safe='')}"
        return self._request("DELETE", path + ("?dry_run=true" if dry_run else ""))

    def mesh(self) -> Json:
        """What agents are told."""
        return self._request("GET", "/v1/mesh")

    def status(self) -> Json:
        """The control plane's own state."""
        return self._request("GET", "/v1/status")

    def token(self, node: str, ttl: float, *, host_key: str = "", addresses: Sequence[str] = ()) -> Json:
        """A new join token, bound to the fingerprint of a host key and to networks where they are given."""
        body = {"node": node, "ttl": ttl, "host_key": host_key, "addresses": list(addresses)}
        return self._request("POST", "/v1/tokens", body)

    def bearer(self, namespace: str, service_account: str, ttl: float) -> Json:
        """A signed token by which a stock proxy is known."""
        body = {"namespace": namespace, "service_account": service_account, "ttl": ttl}
        return self._request("POST", "/v1/bearer-tokens", body)

    def jwks(self) -> Json:
        """What verifies such tokens."""
        return self._request("GET", "/v1/jwks")

    def tokens(self) -> list[Json]:
        """Those that are remembered, oldest first."""
        records: list[Json] = self._request("GET", "/v1/tokens")["tokens"]
        return records

    def token_revoke(self, identifier: str) -> Json:
        """Make a token unusable; what became of it."""
        return self._request("DELETE", f"/v1/tokens/{quote(identifier, safe='')}")

    def node_add(self, name: str, host_keys: Sequence[str], *, replace: bool) -> Json:
        """Register host keys; `changed` says whether that was news."""
        return self._request("POST", "/v1/nodes", {"name": name, "host_keys": list(host_keys), "replace": replace})

    def nodes(self) -> list[Json]:
        """The registered hosts."""
        records: list[Json] = self._request("GET", "/v1/nodes")["nodes"]
        return records

    def node_remove(self, name: str) -> None:
        """Forget a host's keys."""
        self._request("DELETE", f"/v1/nodes/{quote(name, safe='')}")

    def ca(self) -> Json:
        """The certificate authority's state."""
        return self._request("GET", "/v1/ca")

    def ca_revoked(self) -> Json:
        """What is revoked."""
        return self._request("GET", "/v1/ca/revoked")

    def ca_revoke(self, identity: str, serial: str, reason: str) -> Json:
        """Take back an identity or a certificate; one of the two is empty."""
        return self._request("POST", "/v1/ca/revoke", {"identity": identity, "serial": serial, "reason": reason})

    def ca_unrevoke(self, identity: str, serial: str) -> Json:
        """Admit it again."""
        return self._request("POST", "/v1/ca/unrevoke", {"identity": identity, "serial": serial})

    def ca_rotate(self, step: str, *, force: bool) -> Json:
        """Take a step of a root rotation."""
        return self._request("POST", "/v1/ca/rotation", {"step": step, "force": force})

    def _request(self, method: str, path: str, body: Json | None = None) -> Json:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            data = response.read()
        except FileNotFoundError as error:
            why = "the control plane is not running on this host: there is no such socket"
            raise ControlPlaneUnreachable(f"{self._path}: {why}; {_NEXT}") from error
        except PermissionError as error:
            why = "not permitted; run as root, or as a member of the socket's group"
            raise ControlPlaneUnreachable(f"{self._path}: {why}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ControlPlaneUnreachable(
                f"{self._path}: the control plane does not answer: {error}; {_NEXT}"
            ) from error
        finally:
            connection.close()
        return _answer(response.status, data, self._path)


_NEXT = "see `systemctl status hostmesh-control-plane`, or give another --socket"


def _answer(status: int, data: bytes, path: Path) -> Json:
    try:
        value: Json = json.loads(data)
    except ValueError as error:
        text = data[:200].decode(errors="replace")
        raise ControlPlaneUnreachable(f"{path}: unexpected answer {status}: {text}") from error
    if status >= 400:
        problems = [problem_line(problem) for problem in value.get("problems", ())]
        raise RequestRefused("\n".join([*problems, value["error"]]) if problems else value["error"])
    return value


def problem_line(problem: Json) -> str:
    """`file:line: field: why`."""
    where = f"{problem['source']}:{problem['line']}"
    return f"{where}: {problem['field']}: {problem['why']}" if problem["field"] else f"{where}: {problem['why']}"


socket_option = click.option(
    "--socket",
    "path",
    default=DEFAULT_SOCKET,
    show_default=True,
    envvar="HOSTMESH_CONTROL_SOCKET",
    type=click.Path(path_type=Path),
    help="The control plane's socket.",
)
