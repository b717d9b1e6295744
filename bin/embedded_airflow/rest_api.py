"""A client of Airflow's REST API."""

import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from schemas.errors import UserError

ATTEMPTS = 5
TIMEOUT_S = 60


class Conflict(UserError):
    """Airflow refuses a request because it is already doing this (status 409)."""


class Airflow:
    """The REST API of the Airflow at `url`, as its user admin. Raises UserError if it does not answer."""

    def __init__(self, url: str, password: str):
        self.url, self.token = url.rstrip("/"), ""
        try:
            self.token = self.call("POST", "/auth/token", {"username": "admin", "password": password})["access_token"]
        except (ValueError, LookupError, TypeError) as error:  # the page of a proxy, for example
            raise UserError(f"what answers at {self.url} is not Airflow") from error

    @classmethod
    def from_service(cls, home: Path) -> "Airflow":
        """The Airflow that `make up` has started with AIRFLOW_HOME=home. Raises UserError if it is not running."""
        try:
            url, passwords = (home / "url").read_text(), json.loads((home / "passwords.json").read_text())
        except FileNotFoundError:
            raise UserError("Airflow is not running: start it with make up") from None
        return cls(url, passwords["admin"])

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response as a dictionary. A request is repeated if Airflow's database was locked (status 5xx).

        A request that changes nothing twice (any but POST) is also repeated if no response comes, so that a
        backfill outlasts a restart of the API server.
        """
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(1, ATTEMPTS + 1):
            request = urllib.request.Request(self.url + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                if error.code == 409:
                    raise Conflict(_detail(error)) from error
                if error.code < 500 or attempt == ATTEMPTS:
                    raise UserError(f"Airflow refuses ({error.code}): {_detail(error)}") from error
            # A connection that breaks after the request was sent raises no URLError.
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
                if method == "POST" or attempt == ATTEMPTS:
                    raise UserError(f"Airflow does not answer at {self.url}: is it running?") from error
            time.sleep(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _detail(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):  # not Airflow's own JSON
        return text[:300]
