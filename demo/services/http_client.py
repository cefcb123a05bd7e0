#!/usr/bin/env python3
"""A client that makes HTTP requests when told to, so that they come from its own service. Knows nothing of any mesh.

Listens on the unix socket in $SOCKET; each line is a JSON command, each answer one line:
  {"get": URL}            one request                         -> {"code": 200, "body": "..."} or {"error": "..."}
  {"post": URL}           the same, with the method POST
  {"load": URL}           requests without a pause until      -> {}
  {"stop": true}          this stops them                     -> {"sent": 120, "failed": 0, "errors": []}
  {"hold": URL, "n": 8}   opens n connections and keeps them  -> {"open": 8}
  {"again": true}         a request on each of those          -> {"alive": 7, "dead": 1}
"""

from __future__ import annotations

import http.client
import json
import os
import socketserver
import threading
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TIMEOUT = 20.0
LOAD_PAUSE = 0.05


def connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is opened by its first request, and the path to ask for."""
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT), parts.path or "/"


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> dict[str, Any]:
    """One request on a connection; an error is an answer too."""
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return {"code": response.status, "body": response.read().decode()}
    except (OSError, http.client.HTTPException) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def get(url: str, method: str = "GET") -> dict[str, Any]:
    """One request on a connection of its own."""
    connection, path = connect(url)
    try:
        return ask(connection, path, method)
    finally:
        connection.close()


class Load:
    """Requests in the background, one after the other, each on a new connection."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stopping = threading.Event()
        self.sent = 0
        self.errors: list[str] = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Until told to stop."""
        while not self.stopping.wait(LOAD_PAUSE):
            result = get(self.url)
            self.sent += 1
            if result.get("code") != 200:
                self.errors.append(result.get("error") or f"code {result['code']}: {result['body'][:300]}")

    def stop(self) -> dict[str, Any]:
        """Wait for the last request and report."""
        self.stopping.set()
        self.thread.join()
        return {"sent": self.sent, "failed": len(self.errors), "errors": self.errors[:5]}


class Client:
    """What the commands work on."""

    def __init__(self) -> None:
        self.load: Load | None = None
        self.held: list[tuple[http.client.HTTPConnection, str]] = []

    def execute(self, command: dict[str, Any]) -> dict[str, Any]:
        """Answer one command."""
        match command:
            case {"get": url}:
                return get(url)
            case {"post": url}:
                return get(url, "POST")
            case {"load": url}:
                self.stop()
                self.load = Load(url)
                return {}
            case {"stop": True}:
                return self.stop()
            case {"hold": url, "n": number}:
                self.release()
                self.held = [connect(url) for _ in range(number)]
                return {"open": self.each(ask)}
            case {"again": True}:
                alive = self.each(self.again)
                return {"alive": alive, "dead": len(self.held) - alive}
            case _:
                return {"error": f"unknown command: {command}"}

    def each(self, request: Callable[[http.client.HTTPConnection, str], dict[str, Any]]) -> int:
        """A request on every held connection, all at the same time; how many were answered."""
        if not self.held:
            return 0
        with ThreadPoolExecutor(len(self.held)) as pool:
            return sum("code" in answer for answer in pool.map(lambda held: request(*held), self.held))

    def again(self, connection: http.client.HTTPConnection, path: str) -> dict[str, Any]:
        """A request on a held connection, which must not be opened anew."""
        return ask(connection, path) if connection.sock is not None else {"error": "closed"}

    def stop(self) -> dict[str, Any]:
        """End the load, if there is one."""
        load, self.load = self.load, None
        return load.stop() if load is not None else {"sent": 0, "failed": 0, "errors": []}

    def release(self) -> None:
        """Close the held connections."""
        for connection, _ in self.held:
            connection.close()
        self.held = []


CLIENT = Client()


class Handler(socketserver.StreamRequestHandler):
    """Commands, line by line."""

    def handle(self) -> None:
        """Until the other side hangs up."""
        for line in self.rfile:
            self.wfile.write(json.dumps(CLIENT.execute(json.loads(line))).encode() + b"\n")


class Server(socketserver.ThreadingUnixStreamServer):
    """One thread for each who gives commands."""

    daemon_threads = True


if __name__ == "__main__":
    Path(os.environ["SOCKET"]).unlink(missing_ok=True)
    Server(os.environ["SOCKET"], Handler).serve_forever()
