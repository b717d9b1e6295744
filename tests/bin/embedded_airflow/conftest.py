"""A fake server of Airflow's REST API."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bin.embedded_airflow import rest_api


class AirflowServer(ThreadingHTTPServer):
    """Answers each request with `response`. breaks: how many more requests (no logins) get a broken connection."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.response: Any = {"access_token": "t"}
        self.breaks = 0
        self.requests: list[str] = []
        self.logins: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: AirflowServer

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        if self.path == "/auth/token":
            self.server.logins.append(json.loads(body))
        elif self.server.breaks:
            self.server.breaks -= 1
            self.close_connection = True
            return
        content = json.dumps(self.server.response).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # the names that the base class looks up

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[AirflowServer]:
    with AirflowServer() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def airflow(server: AirflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> rest_api.Airflow:
    """The client of the server, which does not wait between its attempts."""
    monkeypatch.setattr(rest_api.time, "sleep", lambda _: None)
    (tmp_path / "url").write_text(f"http://127.0.0.1:{server.server_port}")
    (tmp_path / "passwords.json").write_text('{"admin": "secret"}')
    return rest_api.Airflow.from_service(tmp_path)
