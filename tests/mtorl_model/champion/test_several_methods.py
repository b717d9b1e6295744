"""Champions of two methods in one lake, one on windows and one on candidates, learn the same days."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake
from lakes import unpublish

from jobs.quality.audit_results import FAIL
from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from lakehouse.rows import rows_of_model
from lakehouse.storage.data_files import part_of
from lakehouse.storage.scratch import work_folder
from mtorl_model import learn
from mtorl_model.champion.day_samples import draw_sample
from mtorl_model.champion.registry import Registry, load_named
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.data.delayed_feedback import FeedbackConfig, LabelCutoff
from mtorl_model.methods import METHODS
from mtorl_model.methods.common.label_trees import LabelTrees
from mtorl_model.rollback import roll_back
from mtorl_model.train import train_champion
from mtorl_model.training.candidate_sample import draw_candidates
from mtorl_model.training.config import FineTuneConfig
from schemas.errors import UserError
from schemas.splits import TRAIN
from schemas.tables import EXPOSURES, PREQUENTIAL, PROMOTIONS
from schemas.tables.prequential import prequential
from schemas.tables.promotions import PROMOTIONS_TABLE

TINY = {
    "hidden": 8, "members": 1, "max_epochs": 1, "trees": False, "device": "cpu", "bottom": (8,), "tower": (4,),
    "experts": 2, "weighting": "critics", "critic_bottom": (4,), "critic_tower": (), "critic_epochs": 2,
}  # fmt: skip
METHOD_NAMES = ("mtorl", "rmtl")
NEXT = DAYS[1]  # the first day after the training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of three days with a champion of each method, trained on the first one. Tests copy it."""
    root = tmp_path_factory.mktemp("trained") / "lake"
    lake = write_candidate_lake(root)
    for name in METHOD_NAMES:
        method = METHODS[name]
        config = method.presets("criteo")["small"]
        config = config.changed({key: value for key, value in TINY.items() if key in config.settings()})
        train_champion(lake, CRITEO, DAYS[0], DAYS[0], method, config)
    return root


@pytest.fixture
def lake(trained: Path, tmp_path: Path) -> Lake:
    shutil.copytree(trained, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def learn_day(lake: Lake, day: str, methods: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--dataset", "criteo", "--lake", str(lake.root), "--day", day, "--device", "cpu", "--method", methods)
    monkeypatch.setattr(sys, "argv", ["learn", *flags])
    learn.main()


def versions(lake: Lake, method: str) -> list[str]:
    return [version.name for version in Registry(lake, CRITEO, method).versions()]


def contents(lake: Lake) -> list[str]:
    return [lake[table, CRITEO, NEXT].require().fingerprint for table in (PREQUENTIAL, PROMOTIONS)]


def test_a_day_is_learned_by_both_and_their_rows_stand_beside_each_other(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(lake.root, tmp_path / "copy")
    learn_day(lake, NEXT, "mtorl,rmtl", monkeypatch)
    printed = capsys.readouterr().out
    for name in METHOD_NAMES:
        assert f"{name}_criteo/1, trained through {DAYS[0]}, on {NEXT}:" in printed
        assert f"{name}_criteo/2 is the challenger of {NEXT}" in printed
        assert versions(lake, name) == [f"{name}_criteo/1", f"{name}_criteo/2"]
    tested = pq.ParquetFile(lake[PREQUENTIAL, CRITEO, NEXT].files()[0]).read(["model_version", "head"]).to_pylist()
    assert [(row["model_version"], row["head"]) for row in tested] == [
        *(("mtorl_criteo/1", head) for head in ("channel", "click", "conversion")),
        *(("rmtl_criteo/1", head) for head in ("click", "click_conversion")),
    ]
    decided = {name: rows_of_model(lake, PROMOTIONS_TABLE, CRITEO, NEXT, f"{name}_criteo") for name in METHOD_NAMES}
    assert [row["check"] for row in decided["rmtl"]] == ["click", "click_conversion"]  # neither policy nor basis
    assert {row["champion"] for row in decided["rmtl"]} == {"rmtl_criteo/1"}  # not the champion of mtorl
    for table in (PREQUENTIAL, PROMOTIONS):
        audit = audit_partition(lake, table, CRITEO, NEXT)
        assert audit.verdict != FAIL, [outcome.name for outcome in audit.failed]

    # In another order, in another lake: the same bytes, and the same weights.
    copied = Lake(tmp_path / "copy")
    for method in ("rmtl", "mtorl"):
        learn_day(copied, NEXT, method, monkeypatch)
    assert contents(copied) == contents(lake)
    states = [load_named(tested_lake, CRITEO, "rmtl_criteo/2").state() for tested_lake in (lake, copied)]
    for key, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][key], err_msg=key)

    # A second run changes nothing.
    published = contents(lake)
    monkeypatch.setattr(METHODS["rmtl"], "fine_tune", None)
    learn_day(lake, NEXT, "rmtl", monkeypatch)
    assert "fresh: not tested again" in capsys.readouterr().out
    assert contents(lake) == published
    assert versions(lake, "rmtl") == ["rmtl_criteo/1", "rmtl_criteo/2"]


def test_rollback_and_backfill_of_one_leave_the_other_alone(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    learn_day(lake, NEXT, "mtorl,rmtl", monkeypatch)
    registries = {name: Registry(lake, CRITEO, name) for name in METHOD_NAMES}
    for name, registry in registries.items():
        registry.make_champion(registry.named_version(f"{name}_criteo/2"))  # whatever the gate decided
    exported = (lake.table("champion", CRITEO) / "version.txt").read_text()
    mtorl_rows = rows_of_model(lake, prequential(CRITEO), CRITEO, NEXT, "mtorl_criteo")

    assert roll_back(registries["rmtl"], None).startswith("rmtl_criteo/1, trained through")
    assert registries["mtorl"].champion().name == "mtorl_criteo/2"
    assert not registries["mtorl"].champion().withdrawn
    assert (lake.table("champion", CRITEO) / "version.txt").read_text() == exported

    # The day is run again for one method, from its present champion: the other's rows and versions stay.
    learn_day(lake, NEXT, "rmtl", monkeypatch)
    assert rows_of_model(lake, prequential(CRITEO), CRITEO, NEXT, "mtorl_criteo") == mtorl_rows
    assert versions(lake, "mtorl") == ["mtorl_criteo/1", "mtorl_criteo/2"]
    assert registries["mtorl"].champion().name == "mtorl_criteo/2"
    learn_day(lake, DAYS[2], "mtorl", monkeypatch)
    assert registries["rmtl"].challenger_of(DAYS[2]) is None


def test_a_method_without_a_champion_does_not_stop_the_others(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no champion model for criteo .*--method boosting"):
        learn_day(lake, NEXT, "boosting,rmtl", monkeypatch)
    assert versions(lake, "rmtl") == ["rmtl_criteo/1", "rmtl_criteo/2"]


def test_a_backfilled_day_is_learned_from_what_was_known_at_its_end(lake: Lake) -> None:
    """Neither later days nor gains that became known later change the sample."""
    registry = Registry(lake, CRITEO, "rmtl")
    model = registry.load(registry.champion())
    assert not draw_sample(lake, CRITEO, model, NEXT, FineTuneConfig(), FeedbackConfig()).latest
    model.trees = LabelTrees(0, (0.5, 0.5), channels=1)  # only trees read the latest exposures

    def sample() -> list[np.ndarray]:
        drawn = draw_sample(lake, CRITEO, model, NEXT, FineTuneConfig(), FeedbackConfig())
        assert len(drawn.new)
        assert len(drawn.replay)
        assert len(drawn.latest)
        stores = (drawn.new, drawn.replay, drawn.latest)
        names = ("labels_NT", "maturity_NT", "numeric_NF", "categorical_NK")
        return [getattr(store, name) for store in stores for name in names]

    expected_arrays = sample()
    end_ms = CRITEO.end_of_day_ms(NEXT)
    for day in (DAYS[0], NEXT):
        forget_later_gains(lake, day, end_ms)
    unpublish(lake[EXPOSURES, CRITEO, DAYS[2]])
    for array, expected in zip(sample(), expected_arrays, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_the_latest_exposures_are_of_training_users_and_of_both_days(lake: Lake) -> None:
    registry = Registry(lake, CRITEO, "rmtl")
    encoder = CandidateEncoder.from_json(registry.load(registry.champion()).encoding)
    cutoff = LabelCutoff(CRITEO.end_of_day_ms(NEXT), {})
    stores = [read_candidates(lake, CRITEO, [day], encoder, cutoff, TRAIN)[0] for day in (DAYS[0], NEXT)]

    def latest(windows: int, fewest_days: int) -> CandidateStore:
        config = FineTuneConfig(latest_windows=windows, fewest_latest_days=fewest_days)
        return draw_candidates(lake, encoder, CRITEO, NEXT, [DAYS[0]], config, cutoff, with_latest=True).latest

    assert sorted(latest(1000, 1).exposure_id_N) == sorted(np.concatenate([s.exposure_id_N for s in stores]))
    few = latest(2, 2)
    assert [np.isin(few.exposure_id_N, store.exposure_id_N).sum() for store in stores] == [8, 8]
    assert np.isin(latest(2, 1).exposure_id_N, stores[1].exposure_id_N).all()


def forget_later_gains(lake: Lake, day: str, end_ms: int) -> None:
    """Publish the exposures of a day without the conversions that came later; some came."""
    partition = lake[EXPOSURES, CRITEO, day]
    with work_folder() as staged:
        for file in partition.files():
            rows = pq.ParquetFile(file).read()
            is_later = pc.fill_null(pc.greater_equal(rows.column("conversion_at_ms"), end_ms), False)
            assert pc.any(is_later).as_py()
            for name in ("conversion", "conversion_at_ms"):
                column = rows.column(name)
                unknown = pa.scalar(0 if name == "conversion" else None, column.type)
                rows = rows.set_column(
                    rows.column_names.index(name), rows.field(name), pc.if_else(is_later, unknown, column)
                )
            pq.write_table(rows, staged / f"{part_of(file)}.parquet")
        partition.publish(staged, inputs={}, code="0")
