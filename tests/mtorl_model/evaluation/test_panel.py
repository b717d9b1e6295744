"""A comparison of a large log reads a part of the users, and the rows of exactly these users."""

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake

from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.evaluation import panel as panel_module
from mtorl_model.evaluation.panel import panel
from schemas.splits import TRAIN, VALIDATION
from schemas.tables import EXPOSURES, STEPS

PARTS = {f"part-{number}" for number in range(8)}


def chosen(monkeypatch: pytest.MonkeyPatch, windows: int, *, last: str = "2026-03-02", split: str = VALIDATION):
    """The panel of a log with 1,000 windows on each of two days, for about this number of windows of the split."""
    source = SimpleNamespace(parts=lambda *_: PARTS, windows=lambda *_: 1000)
    monkeypatch.setattr(panel_module, "source_of", lambda _: source)
    return panel(None, CRITEO, None, ["2026-03-01", last], split, windows)


def test_it_has_as_many_parts_as_have_the_windows(monkeypatch):
    assert chosen(monkeypatch, 200) is None  # all parts: a tenth of the users are validation users
    assert chosen(monkeypatch, 10_000) is None
    assert len(chosen(monkeypatch, 100)) == 4
    assert len(chosen(monkeypatch, 101)) == 5
    assert len(chosen(monkeypatch, 1)) == 1
    assert len(chosen(monkeypatch, 100, split=TRAIN)) == 1


def test_every_day_has_its_own_users_and_repeats_them(monkeypatch):
    days = [f"2026-03-{day:02d}" for day in range(2, 30)]
    panels = [chosen(monkeypatch, 25, last=day) for day in days]
    assert panels == [chosen(monkeypatch, 25, last=day) for day in days]
    assert set().union(*panels) == PARTS


@pytest.mark.slow(0.5)
def test_the_users_of_some_parts_are_read_whole_and_no_others(tmp_path):
    lake = write_candidate_lake(tmp_path / "lake")
    all_users, encoder = read_candidates(lake, CRITEO, DAYS)
    for day in DAYS:
        exposures, steps = (lake[table, CRITEO, day].read() for table in (EXPOSURES, STEPS))
        is_odd = pa.array(exposures.column("user_id").to_numpy() % 2 == 1)
        for table, rows in ((EXPOSURES, exposures), (STEPS, steps)):
            staged = tmp_path / f"{table}-{day}"
            staged.mkdir()
            for number, chosen_rows in enumerate((is_odd, pc.invert(is_odd))):
                pq.write_table(rows.filter(chosen_rows), staged / f"part-{number}.parquet")
            lake[table, CRITEO, day].publish(staged, inputs={}, code="two parts")
    odd, even = (read_candidates(lake, CRITEO, DAYS, encoder, parts={part})[0] for part in ("part-0", "part-1"))
    ids = [*odd.exposure_id_N, *even.exposure_id_N]
    assert sorted(ids) == sorted(all_users.exposure_id_N)
    assert min(len(odd), len(even)) > 0
    user_of = dict(zip(all_users.exposure_id_N, all_users.user_N, strict=True))
    users = [{user_of[number] for number in part.exposure_id_N} for part in (odd, even)]
    assert not users[0] & users[1]
