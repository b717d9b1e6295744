"""A lake's days as a CandidateStore: encodings of training users alone, alignment, labels known by a day."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakes import unpublish
from random_exposures import day, random_exposures
from user_chunks import user_chunk

from features.item_history import count_items, fold_item_history
from features.point_in_time import point_in_time_steps
from features.visibility import STRICTLY_BEFORE
from lakehouse.arrow_types import arrow_type
from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.data.delayed_feedback import LabelCutoff, Maturity
from schemas.contract import Table
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import SPLITS, TRAIN, split_of
from schemas.tables.exposures import exposures
from schemas.tables.item_history import item_history
from schemas.tables.steps import steps

DAYS = 3
CRITEO = get_dataset("criteo")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return random_exposures(CRITEO, users=40, rows=500, days=DAYS, seed=5)


@pytest.fixture
def lake(tmp_path, frame) -> Lake:
    """Two files a day, split by user, as the jobs write them."""
    lake = Lake(tmp_path / "lake")
    chunk = user_chunk(frame, CRITEO, CRITEO.end_of_day_ms(day(DAYS - 1)))
    step_rows = point_in_time_steps(chunk, CRITEO, STRICTLY_BEFORE).slice(0, len(frame))
    history = None
    for k in range(DAYS):
        is_day = np.asarray(chunk.exposures.column("ds")) == day(k)
        is_even = np.asarray(chunk.exposures.column("user_id")) % 2 == 0
        files = [is_day & is_even, is_day & ~is_even]
        publish(lake, exposures(CRITEO), day(k), [chunk.exposures.filter(rows) for rows in files])
        publish(lake, steps(CRITEO), day(k), [step_rows.filter(rows) for rows in files])
        history = fold_item_history(history, [count_items(chunk.exposures.filter(is_day), CRITEO)], CRITEO, day(k))
        publish(lake, item_history(CRITEO), day(k), [history])
    return lake


def publish(lake: Lake, table: Table, ds: str, files: list[pa.Table]) -> None:
    schema = pa.schema([(c.name, arrow_type(c.dtype)) for c in table.columns])
    with work_folder() as staged:
        for k, rows in enumerate(files):
            pq.write_table(rows.select(schema.names).cast(schema), staged / f"part-{k}.parquet")
        lake[table.name, CRITEO, ds].publish(staged, inputs={}, code="0")


ALL_DAYS = [day(k) for k in range(DAYS)]


def test_a_store_has_every_exposure_in_order_with_its_split_session_and_labels(lake, frame):
    store, _ = read_candidates(lake, CRITEO, ALL_DAYS)
    ordered = frame.sort_values(["user_id", "exposed_at_ms", "exposure_id"])
    assert store.exposure_id_N.tolist() == ordered.exposure_id.tolist()
    assert [SPLITS[s] for s in store.split_N] == [split_of(user) for user in ordered.user_id]
    assert store.labels_NT.tolist() == np.stack([ordered.click, ordered.click * ordered.conversion], axis=1).tolist()
    first_rows = store.position_N == 0
    assert (np.diff(store.session_N)[first_rows[1:]] == 1).all()
    assert len(store.session_start_S) == first_rows.sum() > len(np.unique(store.user_N)) > 30
    assert (store.categorical_NK < np.array(store.cardinalities)).all()
    assert np.isfinite(store.numeric_NF).all()
    assert (store.numeric_NF[store.missing_NF] == 0).all()
    assert store.missing_NF.any()


def test_items_have_the_history_of_the_evening_before_and_none_on_the_first_day(lake, frame):
    store, encoder = read_candidates(lake, CRITEO, ALL_DAYS)
    column = store.numeric_names.index("campaign_exposures")
    by_id = frame.set_index("exposure_id").loc[store.exposure_id_N]
    assert store.missing_NF[by_id.ds == day(0), column].all()
    earlier = frame[frame.ds < day(2)].campaign.value_counts()
    is_last_day = ((by_id.ds == day(2)) & by_id.campaign.notna()).to_numpy()
    expected = by_id.campaign[is_last_day].map(earlier).fillna(0).to_numpy(float)
    scaled = encoder.scales["campaign_exposures"].apply(expected)
    assert store.numeric_NF[is_last_day, column] == pytest.approx(scaled, rel=1e-5)


def test_users_that_are_not_for_training_change_no_encoding(lake, frame, tmp_path):
    _, encoder = read_candidates(lake, CRITEO, ALL_DAYS)
    is_train = frame.user_id.map(split_of) == TRAIN
    assert 0 < is_train.sum() < len(frame)
    strange = frame.copy()
    strange.loc[~is_train, "time_since_last_click_s"] = 1e9
    strange.loc[~is_train, "cat1"] = "unheard of"
    chunk = user_chunk(strange, CRITEO, CRITEO.end_of_day_ms(day(DAYS - 1)))
    for k in range(DAYS):
        is_day = np.asarray(chunk.exposures.column("ds")) == day(k)
        is_even = np.asarray(chunk.exposures.column("user_id")) % 2 == 0
        publish(
            lake, exposures(CRITEO), day(k), [chunk.exposures.filter(is_day & rows) for rows in (is_even, ~is_even)]
        )
    store, changed = read_candidates(lake, CRITEO, ALL_DAYS)
    assert changed == encoder
    cat1 = store.categorical_names.index("cat1")
    assert (store.categorical_NK[store.split_N != SPLITS.index(TRAIN), cat1] == 0).all()


def test_an_encoder_is_stored_as_text_and_applied_unchanged(lake):
    store, encoder = read_candidates(lake, CRITEO, ALL_DAYS)
    again, _ = read_candidates(lake, CRITEO, ALL_DAYS[-1:], CandidateEncoder.from_json(encoder.to_json()))
    rows = np.isin(store.exposure_id_N, again.exposure_id_N)
    assert again.cardinalities == store.cardinalities
    assert (again.categorical_NK == store.categorical_NK[rows]).all()
    assert (again.numeric_NF == store.numeric_NF[rows]).all()
    with pytest.raises(UserError, match="the encoder is for criteo, not for kuairand"):
        read_candidates(lake, get_dataset("kuairand"), [], encoder)


def test_labels_that_came_later_do_not_count(lake, frame):
    end_ms, maturity = CRITEO.end_of_day_ms(day(1)), Maturity(np.array([3600.0]), np.ones(1))
    store, _ = read_candidates(lake, CRITEO, ALL_DAYS, cutoff=LabelCutoff(end_ms, {"conversion": maturity}))
    known = frame[(frame.conversion_at_ms < CRITEO.end_of_day_ms(day(1))).fillna(False) & (frame.conversion == 1)]
    assert set(store.exposure_id_N[store.labels_NT[:, 1] == 1]) == set(known.exposure_id)
    assert 0 < len(known) < frame.conversion.sum()
    is_mature_N = store.exposed_at_ms_N <= end_ms - 3_600_000
    assert 0 < is_mature_N.sum() < len(store)
    assert (store.maturity_NT == np.column_stack([np.ones(len(store)), is_mature_N])).all()
    assert (read_candidates(lake, CRITEO, ALL_DAYS)[0].maturity_NT == 1).all()
    # The objectives are click and conversion: an exposure is final once its conversion is.
    assert (store.objective_maturity_NI == store.maturity_NT).all()
    assert (store.is_final_N == is_mature_N).all()
    assert read_candidates(lake, CRITEO, ALL_DAYS)[0].is_final_N.all()


def test_a_missing_table_or_another_order_is_one_clear_line(lake):
    exposure_rows = pq.read_table(lake["exposures", CRITEO, day(1)].files()[0])
    rows = [pq.read_table(file) for file in lake["steps", CRITEO, day(1)].files()]
    publish(lake, steps(CRITEO), day(1), [rows[0].take(np.arange(len(exposure_rows))[::-1]), rows[1]])
    with pytest.raises(UserError, match="steps and exposures have other rows; build the day's steps again"):
        read_candidates(lake, CRITEO, [day(1)])
    unpublish(lake["item_history", CRITEO, day(1)])
    with pytest.raises(UserError, match=f"no item_history for criteo on {day(1)}"):
        read_candidates(lake, CRITEO, [day(2)])
