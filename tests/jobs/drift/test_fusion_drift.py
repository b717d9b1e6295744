"""The drift of fusion weights: users of both days, and the power that moved most."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.drift.score_figures import fusion_figures
from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from schemas.dataset import get_dataset
from schemas.tables import FUSION_WEIGHTS

CRITEO = get_dataset("criteo")


def publish(lake: Lake, day: str, rows: dict[int, tuple[float, float]]) -> None:
    weights = pa.table({
        "user_id": list(rows), "power_click": [click for click, _ in rows.values()],
        "power_conversion": [conversion for _, conversion in rows.values()],
    })  # fmt: skip
    with work_folder() as staged:
        pq.write_table(weights, staged / "part-0.parquet")
        lake[FUSION_WEIGHTS, CRITEO, day].publish(staged, inputs={}, code="0")


def test_the_change_is_the_mean_of_each_users_largest_one(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, "2017-01-01", {1: (1.0, 1.0), 2: (0.5, 1.0), 3: (0.0, 0.0)})
    publish(lake, "2017-01-02", {1: (1.1, 0.6), 2: (0.7, 1.1), 4: (2.0, 2.0)})
    (figure,) = fusion_figures(lake, CRITEO, "2017-01-02")
    assert figure.name == "fusion_change"
    assert figure.value == pytest.approx((0.4 + 0.2) / 2)
    assert "2 users of both days" in figure.sentence
    assert list(fusion_figures(lake, CRITEO, "2017-01-01")) == []  # no day before
