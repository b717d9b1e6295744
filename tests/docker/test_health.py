"""docker/health.py: when a container is healthy."""

import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from checkout import ROOT

SCRIPT = ROOT / "docker" / "health.py"
COMPONENTS = ("scheduler", "triggerer")


class _Handler(BaseHTTPRequestHandler):
    """Answers with the health of COMPONENTS. The path names an unhealthy component; /broken is status 500."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        states = {component: {"status": "unhealthy" if component == name else "healthy"} for component in COMPONENTS}
        self.send_response(500 if name == "broken" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(states).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def status(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of the check with these arguments."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return int(end.value.code)


@pytest.mark.parametrize(
    ("path", "components", "is_healthy"),
    [
        ("/", [], True),
        ("/", ["scheduler"], True),
        ("/scheduler", [], True),
        ("/scheduler", ["triggerer"], True),
        ("/scheduler", ["scheduler"], False),
        ("/scheduler", ["triggerer", "scheduler"], False),
        ("/broken", [], False),
        ("/", ["no_such_component"], False),
    ],
)
def test_a_container_is_healthy_when_it_answers_and_its_components_are(monkeypatch, url, path, components, is_healthy):
    assert (status(monkeypatch, url + path, *components) == 0) is is_healthy


def test_a_container_that_does_not_answer_is_unhealthy():
    check = [sys.executable, str(SCRIPT), "http://127.0.0.1:9"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("http://127.0.0.1:9: ")
    assert len(done.stderr.splitlines()) == 1
