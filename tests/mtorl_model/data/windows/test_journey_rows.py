"""The steps of windows, wherever they are read from: the days of the windows, journeys, or earlier days."""

from pathlib import Path

import pyarrow as pa
import pytest
import synthetic
from lakes import unpublish

from lakehouse.lake import Lake
from mtorl_model.data.windows.journey_rows import POSITION, JourneyRows, StepReader
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

pytestmark = pytest.mark.lake

KUAIRAND = get_dataset("kuairand")
DAYS = ("2022-04-10", "2022-04-11", "2022-04-12", "2022-04-13")
LAST = DAYS[-1]


@pytest.fixture
def built(tmp_path: Path) -> tuple[Lake, FeatureSpec]:
    return synthetic.write_lake(tmp_path / "lake", first_day=DAYS[0], last_day=LAST, users=12, daily=6)


def windows_of(lake: Lake, spec: FeatureSpec, days: tuple[str, ...]) -> list[dict]:
    """The padded windows that label an exposure of the last day, by user."""
    windows = synthetic.padded_windows(lake, KUAIRAND, spec, days)
    (last_day_ms,) = {synthetic.FIRST_DAY_MS + DAYS.index(LAST) * synthetic.DAY_MS}
    is_of_day = [row[-1] >= last_day_ms for row in windows.column("exposed_at_ms").to_pylist()]
    rows = windows.filter(pa.array(is_of_day)).to_pylist()
    return sorted(rows, key=lambda row: (row["user_id"], row["window"]))


def test_context_is_the_same_from_earlier_days_from_journeys_and_in_a_range(built, monkeypatch) -> None:
    lake, spec = built
    expected = windows_of(lake, spec, DAYS)
    assert any(row["valid"][0] for row in expected)  # some windows are full of context
    assert windows_of(lake, spec, (LAST,)) == expected

    synthetic.publish_journeys(lake, KUAIRAND, DAYS[-2])
    read = []
    rows_of_day = StepReader._rows_of_day
    monkeypatch.setattr(
        StepReader, "_rows_of_day", lambda self, *args: read.append(args[0]) or rows_of_day(self, *args)
    )
    assert windows_of(lake, spec, (LAST,)) == expected
    assert set(read) == {LAST}  # the journeys have all context

    # Stale journeys are not used.
    synthetic.publish_propensities(lake, KUAIRAND, DAYS[0], lambda _: 0.5)
    assert windows_of(lake, spec, (LAST,)) == expected
    assert set(read) > {LAST}


def by_last_step(windows: pa.Table) -> list[dict]:
    return sorted(windows.to_pylist(), key=lambda row: row["exposure_id"][-1])


def test_days_between_two_requested_days_are_not_read(built, monkeypatch) -> None:
    lake, spec = built
    synthetic.publish_journeys(lake, KUAIRAND, DAYS[-2])
    read = []
    rows_of_day = StepReader._rows_of_day
    monkeypatch.setattr(
        StepReader, "_rows_of_day", lambda self, *args: read.append(args[0]) or rows_of_day(self, *args)
    )
    windows = synthetic.padded_windows(lake, KUAIRAND, spec, (DAYS[0], LAST))
    assert set(read) == {DAYS[0], LAST}
    each_day = [synthetic.padded_windows(lake, KUAIRAND, spec, (day,)) for day in (DAYS[0], LAST)]
    assert by_last_step(windows) == by_last_step(pa.concat_tables(each_day))


def test_missing_steps_are_an_error_of_one_line(built) -> None:
    lake, spec = built
    unpublish(lake["steps", KUAIRAND, DAYS[1]])
    with pytest.raises(UserError, match="steps are missing in the journey of a user: build the days again"):
        synthetic.padded_windows(lake, KUAIRAND, spec, (LAST,))
    unpublish(lake["steps", KUAIRAND, DAYS[0]])
    with pytest.raises(UserError, match="steps of a window are missing: build the days again"):
        synthetic.padded_windows(lake, KUAIRAND, spec, (LAST,))


def test_steps_that_do_not_match_the_exposures_are_an_error_of_one_line(built) -> None:
    lake, spec = built
    larger_lake, _ = synthetic.write_lake(
        lake.root.parent / "other", first_day=DAYS[0], last_day=LAST, users=26, seed=3
    )
    partition = lake["exposures", KUAIRAND, LAST]
    synthetic.copy_day(larger_lake["exposures", KUAIRAND, LAST], partition)
    with pytest.raises(UserError, match="does not match the exposures of that day: build it again"):
        synthetic.padded_windows(lake, KUAIRAND, spec, (LAST,))


def test_a_step_twice_is_an_error() -> None:
    rows = pa.table({"user_id": [1, 1, 1], POSITION: [0, 1, 1]})
    with pytest.raises(UserError, match="steps are missing in the journey"):
        JourneyRows.from_rows(rows)
