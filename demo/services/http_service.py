#!/usr/bin/env python3
"""A small HTTP service that calls the next ones and answers with the whole chain as JSON. Knows nothing of any mesh.

Environment: NAME, PORT, BODY and UPSTREAMS (URLs, space-separated).
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NAME = os.environ["NAME"]
UPSTREAMS = os.environ.get("UPSTREAMS", "").split()
UPSTREAM_TIMEOUT = 15.0


def call(url: str) -> dict[str, Any]:
    """What an upstream answered; an error and the code -1 if it did not."""
    try:
        with urllib.request.urlopen(url, timeout=UPSTREAM_TIMEOUT) as response:
            return {**json.load(response), "uri": url}
    except urllib.error.HTTPError as error:
        return {**json.load(error), "uri": url}
    except (OSError, ValueError) as error:
        return {"uri": url, "code": -1, "error": str(getattr(error, "reason", error))}


def answer(uri: str) -> dict[str, Any]:
    """The body of a response: who answers, when, and what the upstreams said."""
    start, began = datetime.datetime.now(datetime.timezone.utc), time.perf_counter()  # noqa: UP017 - Python 3.10 too
    calls = [call(url) for url in UPSTREAMS]
    took = time.perf_counter() - began
    return {
        "name": NAME,
        "uri": uri,
        "type": "HTTP",
        "ip_addresses": [os.environ.get("ADDRESS", "127.0.0.1")],
        "start_time": start.isoformat(),
        "end_time": (start + datetime.timedelta(seconds=took)).isoformat(),
        "duration": f"{took * 1000:.3f}ms",
        "body": os.environ.get("BODY", "Hello"),
        "upstream_calls": calls,
        "code": 200 if all(upstream["code"] == 200 for upstream in calls) else 500,
    }


class Handler(BaseHTTPRequestHandler):
    """Answers every GET and POST; connections may be kept."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """One request."""
        document = answer(self.path)
        body = json.dumps(document).encode()
        self.send_response(document["code"])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the base class looks for it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing: the demo shows what the mesh logs."""


class Server(ThreadingHTTPServer):
    """Listens on every address."""

    daemon_threads = True
    request_queue_size = socket.SOMAXCONN


if __name__ == "__main__":
    Server(("", int(os.environ["PORT"])), Handler).serve_forever()
