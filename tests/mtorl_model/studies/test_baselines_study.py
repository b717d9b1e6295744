"""The comparison of methods: equal tuning budgets, no test user, resumption, and values where channels were random."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from optional_methods import parameters
from synthetic import write_lake

from mtorl_model.data.propensities import Propensities
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import Prediction
from mtorl_model.studies.baselines import folds, policy_values, tables, tuning
from mtorl_model.studies.baselines.folds import HeldOut, fold_of
from mtorl_model.studies.baselines.spaces import CHOICES, base_config, space_of, start_of
from mtorl_model.studies.baselines.study import as_text, run_study, seeded
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TEST, split_of

KUAIRAND = get_dataset("kuairand")
SIZES = {"trials": 2, "folds": 1, "seeds": 2, "max_epochs": 1}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return write_lake(tmp_path_factory.mktemp("lake"), users=80)[0]


@pytest.fixture(scope="module")
def result(lake):
    return run_study(lake, KUAIRAND, ["mtorl", "cql"], **SIZES)


@pytest.mark.parametrize("name", parameters(CHOICES))
def test_every_method_is_tuned_from_its_preset_in_a_space_of_its_own_settings(name):
    config = base_config(name, "kuairand", None)
    space = space_of(name, config)
    start = start_of(config, space)
    assert start.keys() == space.keys()
    assert len(space) >= 4
    assert all(start[key] in values for key, values in space.items())
    assert METHODS[name].Config.from_json(config.changed(start).to_json()) == config.changed(start)
    assert seeded(config, 3) != config


def test_the_table_has_every_method_with_differences_to_mtorl_and_no_test_user(lake, result):
    rows = {(row["method"], row["figure"]): row for row in result["rows"]}
    assert rows["mtorl", "channel f1_macro"]["difference"] is None
    assert rows["cql", "channel f1_macro"]["difference"]["value"] == pytest.approx(
        rows["cql", "channel f1_macro"]["value"] - rows["mtorl", "channel f1_macro"]["value"]
    )
    assert ("mtorl", "is_click auc") in rows or any(f.endswith(" auc") for m, f in rows if m == "mtorl")
    assert not any(figure.endswith(" auc") for method, figure in rows if method == "cql")  # it predicts no gains
    labels = fold_of(lake, "kuairand", 0, 20)
    for part in (labels.stop, labels.held_out):
        assert TEST not in {split_of(user) for user in np.unique(part.user_N).tolist()}
    assert not set(labels.stop.user_N) & set(labels.held_out.user_N)
    assert result["value"] == {"identified": False, "why": "the log has no propensities", "rows": []}
    assert "not identified" in as_text(result)
    assert result["command"].endswith("TRIALS=2 FOLDS=1 SEEDS=2 EPOCHS=1 METHODS='mtorl cql'")


def test_a_second_run_trains_nothing(lake, result, monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(folds, "trained", refuse)
    monkeypatch.setattr(tuning, "trained", refuse)
    assert run_study(lake, KUAIRAND, ["mtorl", "cql"], **SIZES) == result


def test_each_method_gets_the_same_number_of_trials_after_a_kill(lake, monkeypatch):
    calls = []
    real = tuning.trained

    def count(*arguments):
        calls.append(arguments[3])
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(tuning, "trained", count)
    base = base_config("wide_and_deep", "kuairand", 1)
    with pytest.raises(KeyboardInterrupt):
        tuning.tuned(lake, "kuairand", "wide_and_deep", base, 2)
    tuning.tuned(lake, "kuairand", "wide_and_deep", base, 2)
    assert len(calls) == 3  # one killed, two finished
    preset = base.changed(start_of(base, space_of("wide_and_deep", base)))
    assert calls[0] == calls[1] == preset  # the preset's own settings are tried again
    tuning.tuned(lake, "kuairand", "wide_and_deep", base, 2)
    assert len(calls) == 3


def test_the_value_of_a_known_policy_is_within_its_interval(lake, monkeypatch):
    """Channel 1 earns .6, the others .2; the log draws evenly."""
    rng = np.random.default_rng(0)
    rows, channels = 3000, 3
    action_N = rng.integers(0, channels, rows)
    part = SimpleNamespace(
        action_N=action_N, exposure_N=np.arange(rows), user_N=rng.integers(0, 300, rows),
        previous_N=rng.integers(0, channels, rows),
        gain_NG=(rng.random(rows) < np.where(action_N == 1, 0.6, 0.2)).astype(float)[:, None],
        features=lambda: rng.normal(size=(rows, 2)).astype(np.float32),
    )  # fmt: skip
    known = Propensities(np.arange(rows), np.full(rows, 1 / channels), np.zeros(rows, np.int64))
    monkeypatch.setattr(policy_values, "read_propensities", lambda _: known)
    policy_NA = np.tile([0.1, 0.8, 0.1], (rows, 1))
    values_NAG = np.tile([[0.9], [0.1], [0.1]], (rows, 1, 1))
    training = [[HeldOut(Prediction(policy_NA, None, values_NAG), 0)]]
    result = policy_values.policy_values(lake, "kuairand", [part], {"din": training})
    values = {(row["policy"], row["estimator"]): row for row in result["rows"]}
    for policy, truth in (("din", 0.6), ("din, by value", 0.2), (policy_values.FIXED, 0.2)):
        for estimator in ("snips", "dr"):
            assert values[policy, estimator]["low"] < truth < values[policy, estimator]["high"]
    assert values["din", "dr"]["minus_log"]["low"] > 0 > values["din, by value", "dr"]["minus_log"]["high"]


def test_the_tables_show_every_method_and_the_gap_between_the_protocols(result, tmp_path):
    assert tables.published(tmp_path, tmp_path / "pictures", "") == []
    (tmp_path / "baselines.json").write_text(json.dumps(result))
    text = "\n".join(tables.unseen_users(result))
    assert text.count("\n| mtorl |") == text.count("\n| cql |") == 1
    assert "not identified (the log has no propensities)" in text
    assert "channel f1_macro minus mtorl" in text
    random_log = result | {"value": {"identified": True, "why": "drawn", "labels": 1, "users": 1, "rows": []}}
    text = "\n".join(tables.unseen_users(random_log))
    assert "ignore their F1 and accuracy" in text
    assert "channel f1_macro minus mtorl" not in text
    unseen = next(
        row["value"] for row in result["rows"] if (row["method"], row["figure"]) == ("cql", "channel f1_macro")
    )
    leaking = {"f1_macro": unseen + 0.25, "intervals": {"f1_macro": [0.1, 0.9]}, "paper": {"f1_macro": 0.597},
               "share_of_test_steps_also_in_training": 0.65, "dataset": "kuairand",
               "command": "make benchmark-published"}  # fmt: skip
    (tmp_path / "published_cql.json").write_text(json.dumps(leaking))
    text = "\n".join(tables.published(tmp_path, tmp_path / "pictures", ""))
    assert "65% of the test steps" in text
    assert f"| 0.5970 | {unseen:.4f} | +0.2500 |" in text
    assert "(pictures/kuairand_protocols.svg)" in text
    picture = (tmp_path / "pictures" / "kuairand_protocols.svg").read_text()
    assert "<!-- cql -->" in picture
    assert "<!-- users never seen -->" in picture


@pytest.mark.parametrize("content", [b"", b"cut off"])
def test_damaged_predictions_of_a_fold_are_one_line(tmp_path, content):
    file = tmp_path / "cql_1f2e.npz"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged .*: delete it, and run the study again"):
        folds._read(file)
