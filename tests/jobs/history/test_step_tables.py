"""The stale days of the three tables are built with one start of Spark, and none if all are fresh."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from jobs.history import step_tables
from jobs.history.step_tables import update_steps
from schemas.dataset import get_dataset
from schemas.tables import ITEM_HISTORY, SEQUENCES, STEPS

DAY = "2026-03-01"


@pytest.mark.parametrize("stale", [{STEPS, SEQUENCES, ITEM_HISTORY}, {ITEM_HISTORY}, set()])
def test_what_is_stale_is_built_with_one_start(monkeypatch, capsys, stale):
    events = []

    @contextmanager
    def opened(_: str):
        events.append("Spark")
        yield object()

    monkeypatch.setattr(step_tables, "stale_days", lambda _, table, *__, **___: [DAY] if table in stale else [])
    monkeypatch.setattr(step_tables, "build", lambda _, __, ___, days, *____: events.append(days))
    lake = SimpleNamespace(history_inputs=lambda *_: {DAY: {}}, require_writable=lambda: None)
    update_steps(lake, get_dataset("criteo"), [DAY], 20, None, opened)
    built = {table: [DAY] if table in stale else [] for table in (ITEM_HISTORY, STEPS, SEQUENCES)}
    assert events == (["Spark", built] if stale else [])
    assert capsys.readouterr().out.count("1 days built") == len(stale)
