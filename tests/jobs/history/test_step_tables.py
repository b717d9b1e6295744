"""The history of items is built while Spark works: a failure of either is the error of the job."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from jobs.history import step_tables
from jobs.history.step_tables import update_steps
from schemas.dataset import get_dataset
from schemas.errors import UserError

DAY = "2026-03-01"


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """The names of the builders that update_steps starts, in this order; all of a day is stale."""
    events: list[str] = []
    monkeypatch.setattr(step_tables, "stale_days", lambda *_, **__: [DAY])
    monkeypatch.setattr(step_tables, "publish_item_history", lambda *_: events.append("items"))
    monkeypatch.setattr(step_tables, "build", lambda *_: events.append("steps"))
    return events


def update(started: list[str]) -> None:
    @contextmanager
    def opened(_: str):
        started.append("Spark")
        yield object()

    lake = SimpleNamespace(history_inputs=lambda *_: {DAY: {}}, require_writable=lambda: None)
    update_steps(lake, get_dataset("criteo"), [DAY], 20, None, opened)


def test_both_are_built_after_spark_has_started(started, capsys):
    update(started)
    assert started[0] == "Spark"
    assert set(started[1:]) == {"items", "steps"}
    assert capsys.readouterr().out.count("1 days built") == 3


@pytest.mark.parametrize("failing", ["publish_item_history", "build"])
def test_a_failure_of_one_is_the_error_of_the_job_and_the_other_ends(started, monkeypatch, failing):
    def fail(*_: object) -> None:
        raise UserError("exposures failed their audit")

    monkeypatch.setattr(step_tables, failing, fail)
    with pytest.raises(UserError, match="exposures failed their audit"):
        update(started)
    assert started == ["Spark", "steps" if failing == "publish_item_history" else "items"]
