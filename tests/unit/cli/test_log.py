"""Log levels of a running agent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from hostmesh.cli import main


class _Admin(BaseHTTPRequestHandler):
    """Answers as the agent's /logging does."""

    def do_POST(self) -> None:
        wrong = "nonsense" in self.path
        body = b"Invalid level provided: nonsense\n" if wrong else f"asked {self.path}\n".encode()
        self.send_response(400 if wrong else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Admin) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ((), "/logging"),
        (("--level", "access=debug,info"), "/logging?level=access%3Ddebug%2Cinfo"),
        (("--reset",), "/logging?reset="),
    ],
)
def test_levels_are_asked_of_the_agent(port: int, options: tuple[str, ...], asked: str) -> None:
    """Shown without options, changed with --level, the configured ones with --reset."""
    result = CliRunner().invoke(main, ["log", "--port", str(port), *options])
    assert (result.exit_code, result.output) == (0, f"asked {asked}\n")


def test_a_wrong_level_is_the_users_mistake(port: int) -> None:
    """Before the agent is asked: wrong use, with what is right."""
    result = CliRunner().invoke(main, ["log", "--port", str(port), "--level", "nonsense"])
    assert result.exit_code == 2
    assert "'nonsense' is not a log level; use [target=]trace|debug" in result.output
