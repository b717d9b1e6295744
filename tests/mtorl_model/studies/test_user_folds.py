"""Folds of users: every user is measured once, and no encoding or training sees a measured user."""

import numpy as np
import pytest
from candidate_lake import CRITEO, DAYS, write_candidate_lake

from mtorl_model.data.candidates.reading import read_candidate_rows
from mtorl_model.studies.multitask import user_folds
from mtorl_model.studies.multitask.study import BOOSTING
from mtorl_model.studies.multitask.tables import as_markdown
from mtorl_model.studies.multitask.user_folds import CHAMPION, fold_splits, measure, parts_of
from schemas.splits import SPLITS, TEST, TRAIN, VALIDATION

FOLDS = 3


def test_each_user_is_measured_in_one_fold_and_all_rows_of_a_user_are_in_one_part():
    user_id = np.repeat([f"u{k}" for k in range(90)], 3)
    splits = np.stack([fold_splits(user_id, FOLDS, fold) for fold in range(FOLDS)])
    assert (splits.reshape(FOLDS, 90, 3) == splits.reshape(FOLDS, 90, 3)[:, :, :1]).all()
    assert ((splits == SPLITS.index(TEST)).sum(axis=0) == 1).all()
    for name, share in ((TEST, 1 / 3), (VALIDATION, 1 / 15), (TRAIN, 0.6)):
        assert (splits == SPLITS.index(name)).mean(axis=1) == pytest.approx(share, abs=0.05)


def test_encodings_see_training_users_only_and_measured_rows_keep_their_labels(tmp_path):
    lake = write_candidate_lake(tmp_path / "lake")
    rows = read_candidate_rows(lake, CRITEO, DAYS)
    parts, encoder = parts_of(rows, CRITEO, FOLDS, 0)
    measured = set(parts.test.exposure_id_N.tolist())
    assert len(measured) + len(parts.train) + len(parts.valid) == len(rows)
    spoiled = rows.to_pandas()
    is_measured = spoiled.exposure_id.isin(measured)
    spoiled.loc[is_measured, "time_since_last_click_s"] = 1e9
    spoiled.loc[is_measured, "cat1"] = "unheard of"
    changed = rows.schema.empty_table().from_pandas(spoiled, rows.schema, preserve_index=False)
    assert parts_of(changed, CRITEO, FOLDS, 0)[1] == encoder

    p_NT = np.full(parts.test.labels_NT.shape, 0.3)
    result = measure([(parts.test, {CHAMPION: parts.test.labels_NT * 0.5 + 0.25, BOOSTING: p_NT})])
    figures = {(row["variant"], row["figure"]): row["value"] for row in result["rows"]}
    assert figures[CHAMPION, "click auc"] == 1.0
    assert result["labels"] == len(measured)
    better = {d["figure"]: d["value"] for d in result["differences"]}
    assert better["click auc"] == pytest.approx(0.5)
    texts = {"protocol": "user-folds", "preset": "small", "sessions": "", "command": "", "paper": {}, "seeds": 1,
             "users_in_parts": ""}  # fmt: skip
    assert f"| {CHAMPION} minus {BOOSTING} | " in "\n".join(as_markdown({**result, **texts}))


def test_more_folds_cannot_be_measured_than_there_are(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["user_folds", "--dataset", "criteo", "--lake", str(tmp_path), "--measured", "5"])
    with pytest.raises(user_folds.UserError, match="--measured 5: there are 4 folds"):
        user_folds.main()
