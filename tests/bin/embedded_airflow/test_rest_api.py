"""The client of Airflow's REST API, with a server that answers late or never."""

import pytest

from bin.embedded_airflow import rest_api
from schemas.errors import UserError


def test_a_request_is_repeated_where_the_connection_breaks(server, airflow):
    server.breaks = rest_api.ATTEMPTS - 1
    assert airflow.call("GET", "/api/v2/dags/d")
    assert server.requests.count("GET /api/v2/dags/d") == rest_api.ATTEMPTS
    server.breaks = rest_api.ATTEMPTS
    with pytest.raises(UserError, match="Airflow does not answer at http"):
        airflow.call("GET", "/api/v2/dags/d")


def test_a_backfill_is_not_requested_twice(server, airflow):
    server.breaks = 1
    with pytest.raises(UserError, match="Airflow does not answer at http"):
        airflow.call("POST", "/api/v2/backfills", {})
    assert server.requests.count("POST /api/v2/backfills") == 1


def test_the_service_is_entered_with_its_own_password(server, airflow):
    assert server.logins == [{"username": "admin", "password": "secret"}]


def test_a_service_that_is_not_running_is_named_with_the_command_that_starts_it(tmp_path):
    with pytest.raises(UserError, match="make up"):
        rest_api.Airflow.from_service(tmp_path)


def test_another_server_is_not_taken_for_airflow(server):
    server.response = "please log in"
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.raises(UserError, match=f"what answers at {url} is not Airflow"):
        rest_api.Airflow(url, "secret")
