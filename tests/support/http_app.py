"""An HTTP/1.1 application that says what it was asked, and how a client reads that."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any, cast

from tests.support.patience import PATIENCE
from tests.support.proxy import App


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the application saw it; header names in lower case."""

    app: str
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Behaviour:
    """What an application does beside telling what it was asked.

    `statuses` come first, one for each request, then what `decide` says; `hold` delays answers.
    """

    statuses: list[int] = field(default_factory=list)
    hold: threading.Event | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    decide: Callable[[Asked], int] = lambda _: 200


class HttpApp(App):
    """Answers with what it was asked as JSON, unless its behaviour has another body; `asked` has every request."""

    def __init__(self, ip: str, name: str, behaviour: Behaviour | None = None) -> None:
        self.name = name
        self.behaviour = behaviour or Behaviour()
        self.asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        super().__init__(ip, lambda sock: cast("None", _Handler(sock, ("", 0), cast("Any", self))))

    def next(self) -> Asked:
        """The next request, waited for."""
        return self.asked.get(timeout=PATIENCE)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Any

    def _answer(self) -> None:
        app = cast("HttpApp", self.server)
        behaviour = app.behaviour
        length = int(self.headers.get("content-length", 0))
        self.rfile.read(length)
        asked = Asked(app.name, self.command, self.path, _lower(self.headers))
        app.asked.put(asked)
        if behaviour.hold is not None:
            behaviour.hold.wait(PATIENCE)
        body = behaviour.body or json.dumps([asked.app, asked.method, asked.path, asked.headers]).encode()
        self.send_response(behaviour.statuses.pop(0) if behaviour.statuses else behaviour.decide(asked))
        for name, value in behaviour.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _answer  # noqa: N815 - as the base class wants them

    def log_message(self, *args: object) -> None:
        """Nothing: the test looks at `asked`."""


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): ",".join(headers.get_all(name, [])) for name in headers}


def told(body: bytes) -> Asked:
    """What an application has answered."""
    return Asked(*json.loads(body))
