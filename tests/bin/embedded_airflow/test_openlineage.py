"""bin/embedded_airflow/openlineage.py: where Airflow's lineage events go."""

import json
from importlib.metadata import PackageNotFoundError

import pytest
from checkout import ROOT

from bin.embedded_airflow import openlineage
from schemas.errors import UserError


def test_events_are_appended_to_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(openlineage, "version", lambda _: "2.0")
    monkeypatch.chdir(tmp_path)
    transport = json.loads(openlineage.file_transport("my events.jsonl"))
    assert transport == {"type": "file", "log_file_path": str(tmp_path / "my events.jsonl"), "append": True}


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(openlineage, "version", version)
    with pytest.raises(UserError, match=r"pip install -r requirements-openlineage\.txt"):
        openlineage.file_transport("events.jsonl")
    assert openlineage.PACKAGE in (ROOT / "requirements-openlineage.txt").read_text()
