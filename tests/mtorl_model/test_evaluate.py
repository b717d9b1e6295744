"""Evaluation end to end: a champion trained on a tiny lake, evaluated on unseen users."""

import json
import re
import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from synthetic import CHANNELS, make_spec, padded_windows, publish_propensities, write_lake

from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from mtorl_model import evaluate
from mtorl_model.champion.export import export_champion
from mtorl_model.champion.registry import Registry
from mtorl_model.data.windows.store import open_windows
from mtorl_model.evaluate import evaluate_champion, measure
from mtorl_model.evaluation.label_predictions import LabelPredictions, labels_of_each, predict_labels, previous_channel
from mtorl_model.evaluation.text import as_text
from mtorl_model.methods.baselines.boosting import Boosting, BoostingConfig
from mtorl_model.methods.common.label_trees import LabelTrees
from mtorl_model.methods.method import Prediction
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.train import train_champion
from mtorl_model.training.config import TrainConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import split_of
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
FIRST, LAST = "2022-04-10", "2022-04-11"
KNOWN = range(1000, 1120)  # the users of the trained lake
TINY = MTORLConfig(
    ModelConfig(hidden=16, dropout=0.0),
    LossConfig(mu=4.0, dpo_weight=0.0),  # so that a few epochs are enough for the reward, too
    TrainConfig(batch_size=32, learning_rate=2e-2, max_epochs=10, device="cpu"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Lake:
    """A lake of 120 users with a champion and with journeys of these users."""
    lake, _ = write_lake(tmp_path_factory.mktemp("trained"), users=len(KNOWN))
    train_champion(lake, KUAIRAND, FIRST, LAST, MTORL, TINY)
    publish_known_users(lake, KNOWN)
    return lake


@pytest.fixture(scope="module")
def other_lake(tmp_path_factory) -> Lake:
    """Windows of 180 users; the trained lake has journeys of the first 120."""
    return write_lake(tmp_path_factory.mktemp("others"), users=180, seed=5)[0]


@pytest.fixture(scope="module")
def evaluation(trained: Lake, other_lake: Lake) -> dict:
    """The metrics of the champion on the windows of other_lake. Tests must not change them."""
    return evaluate_champion(Registry(trained, KUAIRAND), other_lake=other_lake)


def publish_known_users(lake: Lake, users) -> None:
    with work_folder() as staged:
        pq.write_table(pa.table({"user_id": pa.array(users, pa.int64())}), staged / "part-0.parquet")
        lake["journeys", "kuairand", LAST].publish(staged, inputs={}, code="test")


def windows_of(lake: Lake) -> pa.Table:
    days = lake.days("sequences", "kuairand")
    return padded_windows(lake, KUAIRAND, make_spec(KUAIRAND, FIRST, LAST), days)


def test_the_held_out_users_against_scikit_learn(trained):
    version, model = Registry(trained, KUAIRAND).load_champion()
    metrics = evaluate_champion(Registry(trained, KUAIRAND), split="test", first_day=FIRST, last_day=LAST)

    store = open_windows(trained, model.encoder(KUAIRAND), FIRST, LAST, "test")
    (batch,) = store.in_order(10_000)
    with torch.inference_mode():
        output = model.networks[0].eval()(batch)
    action = batch.action_BL[batch.label_BL].numpy()
    policy = model.networks[0].policy(output)[batch.label_BL].numpy()
    click = batch.gains_BLG[batch.label_BL][:, 0].numpy()
    predicted = model.networks[0].predicted_gains(output)[batch.label_BL][:, 0].numpy()

    assert (metrics["protocol"], metrics["dataset"], metrics["model_version"]) == ("unseen-users", "kuairand", version)
    assert metrics["labels"] == len(action)
    assert metrics["users"] == sum(split_of(user) == "test" for user in KNOWN)
    assert metrics["users_left_out"] == 0
    assert metrics["policy"]["identified"] is False
    assert metrics["channel"]["f1_macro"] == pytest.approx(f1_score(action, policy.argmax(1), average="macro"))
    assert metrics["channel"]["accuracy"] == pytest.approx(accuracy_score(action, policy.argmax(1)))
    assert metrics["reward"]["click"]["auc"] == pytest.approx(roc_auc_score(click, predicted), abs=1e-5)
    assert metrics["reward"]["click"]["logloss"] == pytest.approx(log_loss(click, predicted), abs=1e-5)
    assert set(metrics["reward"]) == {"click", "long_view"}


def test_a_trained_champion_predicts_better_than_base_rates(trained):
    metrics = evaluate_champion(Registry(trained, KUAIRAND), split="test")
    assert metrics["channel"]["predictable"] is True
    assert metrics["channel"]["f1_macro_copy_previous"] == pytest.approx(
        0.9, abs=0.05
    )  # .85, and a third of the others, stay on the channel
    assert metrics["reward"]["click"]["auc"] > 0.7
    assert metrics["reward"]["click"]["rate_top_37.5pct"] > metrics["reward"]["click"]["rate"]


def test_users_that_the_champion_was_trained_on_are_left_out(trained, other_lake, evaluation):
    metrics = evaluation
    learned = {user for user in KNOWN if split_of(user) in ("train", "validation")}
    assert metrics["users_left_out"] == len(learned) > 60
    assert metrics["users"] == 180 - len(learned)

    table = windows_of(other_lake)
    unseen = table.filter(pa.array([user not in learned for user in table.column("user_id").to_pylist()]))
    labels = predict_labels(Registry(trained, KUAIRAND).load_champion()[1], [unseen], KUAIRAND)
    click = labels.gain_NG[:, 0]
    assert metrics["labels"] == len(click)
    assert metrics["reward"]["click"]["auc"] == pytest.approx(roc_auc_score(click, labels.prediction.gains_XG[:, 0]))


def test_the_model_is_compared_with_its_baselines(evaluation):
    metrics = evaluation
    baselines, compared = metrics["baselines"], metrics["model_minus_baseline"]
    assert (
        set(baselines["channel"]) == set(compared["channel"]) == {"copy_previous", "most_popular", "gradient_boosting"}
    )
    assert baselines["channel"]["copy_previous"]["f1_macro"] == metrics["channel"]["f1_macro_copy_previous"]
    assert baselines["channel"]["gradient_boosting"]["f1_macro"] == pytest.approx(0.9, abs=0.05)  # it finds the rule
    assert baselines["channel"]["most_popular"]["accuracy"] < 0.5
    assert baselines["reward"]["click"]["gradient_boosting"]["auc"] > 0.7
    for name, figures in compared["channel"].items():
        difference = metrics["channel"]["f1_macro"] - baselines["channel"][name]["f1_macro"]
        assert figures["f1_macro"]["value"] == pytest.approx(difference)
        # On some processors the model and a baseline choose the same channels: then all three are 0.
        assert figures["f1_macro"]["low"] <= figures["f1_macro"]["value"] <= figures["f1_macro"]["high"]
    assert re.search(r"beats most popular, \d\.\d{3}$", as_text(metrics), re.MULTILINE)
    assert re.search(r"gradient boosting, AUC \d\.\d{3}$", as_text(metrics), re.MULTILINE)


def test_a_channel_that_cannot_be_predicted_has_no_figures_in_the_text(evaluation):
    metrics = deepcopy(evaluation)
    metrics["channel"]["predictable"] = False
    text = as_text(metrics)
    assert "cannot be predicted" in text
    assert "macro-F1" not in text
    assert "most popular" not in text
    assert "copy previous" not in text


def test_boosting_is_adjusted_like_the_model(trained, monkeypatch):
    """Both are divided by the channels' shares; otherwise the adjustment alone would make a difference."""
    _, model = Registry(trained, KUAIRAND).load_champion()
    assert model.adjustment_A == pytest.approx(
        np.array(model.initial_policy.channel_shares) ** model.config.model.prior_adjustment
    )
    boosting = Boosting(BoostingConfig(), model.spec, model.initial_policy)
    chances = np.array([[0.6, 0.4], [0.5, 0.5], [0.9, 0.1]])
    channel = SimpleNamespace(classes_C=np.array([0, 2]), probabilities=lambda _: chances)
    boosting._trees = LabelTrees(channel, (0.5,) * len(model.spec.gains), 3)
    baseline = boosting.predict_features(np.zeros((3, 2), np.float32))
    assert baseline.policy_XA.tolist() == [[0.6, 0.0, 0.4], [0.5, 0.0, 0.5], [0.9, 0.0, 0.1]]

    guesses = {}
    monkeypatch.setattr(evaluate, "channel_figures", lambda action_N, guess_N, *_: guess_N.tolist())
    labels = SimpleNamespace(
        prediction=Prediction(np.full((3, 3), 1 / 3)), previous_N=np.zeros(3, int), action_N=np.zeros(3, int)
    )
    for adjustment_A in ([1.0, 1.0, 1.0], [0.8, 0.1, 0.4]):
        adjusted = SimpleNamespace(adjustment_A=np.array(adjustment_A), initial_policy=model.initial_policy)
        guesses[adjustment_A[0]] = evaluate._channel(labels, adjusted, baseline, None)["gradient_boosting"]
    assert guesses == {1.0: [0, 0, 0], 0.8: [2, 2, 0]}


def test_random_labels_give_no_clear_difference(trained, monkeypatch):
    """Random labels: the AUC is .5, and every interval of a difference to a baseline contains 0."""
    _, model = Registry(trained, KUAIRAND).load_champion()
    rng, labels = np.random.default_rng(0), 6000
    channels, gains = len(model.spec.channels), len(model.spec.gains)
    random = LabelPredictions(
        user_N=np.arange(labels) // 6, exposure_N=np.arange(labels), action_N=rng.integers(0, channels, labels),
        previous_N=rng.integers(0, channels, labels), gain_NG=rng.integers(0, 2, (labels, gains)).astype(float),
        prediction=Prediction(rng.dirichlet(np.ones(channels), labels), rng.uniform(0.45, 0.55, (labels, gains))),
        feature_NF=rng.random((labels, 3), dtype=np.float32),
        maturity_NG=np.ones((labels, gains)),
    )  # fmt: skip
    boosting = Boosting(BoostingConfig(), model.spec, model.initial_policy)
    monkeypatch.setattr(boosting, "predict_features", lambda x: Prediction(
        rng.dirichlet(np.ones(channels), len(x)), rng.uniform(0.45, 0.55, (len(x), gains))
    ))  # fmt: skip
    metrics = measure(random, model, boosting)
    assert metrics["channel"]["predictable"] is False
    compared = metrics["model_minus_baseline"]
    differences = [
        d
        for figures in (*compared["channel"].values(), *(b for g in compared["reward"].values() for b in g.values()))
        for name, d in figures.items()
        # The F1 of a constant channel is truly lower than that of random channels.
        if not (figures is compared["channel"]["most_popular"] and name == "f1_macro")
    ]
    assert len(differences) == 5 + gains * 6
    for difference in differences:
        assert difference["low"] <= 0 <= difference["high"], difference
    for gain in model.spec.gains:
        low, high = metrics["reward"][gain]["intervals"]["auc"]
        assert low <= 0.5 <= high


def test_without_readable_training_windows_the_champion_is_evaluated_without_boosting(trained, other_lake, monkeypatch):
    """A day that the champion was trained on may have failed its audit since."""

    def refuse(*_):
        raise UserError("2022-04-10 failed its audit")

    monkeypatch.setattr(evaluate, "open_windows", refuse)
    metrics = evaluate_champion(Registry(trained, KUAIRAND), other_lake=other_lake)
    assert metrics["reward"]["click"]["auc"] > 0.7
    assert metrics["baselines"]["gradient_boosting_fitted_on_labels"] is None
    assert set(metrics["baselines"]["channel"]) == {"copy_previous", "most_popular"}
    assert "no gradient boosting to compare with: 2022-04-10 failed its audit" in as_text(metrics)
    assert len(metrics["reward"]["click"]["calibration"]) == 10


def test_the_value_of_the_policy_uses_the_labels_drawn_at_random(trained, tmp_path):
    new_lake, _ = write_lake(tmp_path, users=180, seed=5)
    for day in (FIRST, LAST):
        publish_propensities(new_lake, KUAIRAND, day, lambda exposure: 0.3 if exposure % 3 == 0 else None)
    metrics = evaluate_champion(Registry(trained, KUAIRAND), other_lake=new_lake)
    learned = {user for user in KNOWN if split_of(user) in ("train", "validation")}
    labels = [
        exposure
        for row in windows_of(new_lake).to_pylist()
        if row["user_id"] not in learned
        for exposure, label, channel in zip(row["exposure_id"], row["is_label"], row["channel"], strict=True)
        if label and channel and exposure % 3 == 0
    ]
    assert metrics["policy"]["labels"] == len(labels) > 200
    assert metrics["policy"]["identified"] is False  # the synthetic users stay on their channel
    assert "depends on the one before" in metrics["policy"]["why"]


def test_days_outside_the_range_are_not_read(trained, other_lake, evaluation):
    first, last = (
        evaluate_champion(Registry(trained, KUAIRAND), other_lake=other_lake, first_day=day, last_day=day)["labels"]
        for day in (FIRST, LAST)
    )
    assert 0 < first < evaluation["labels"]
    assert first + last == evaluation["labels"]


def test_without_users_to_evaluate_the_error_is_one_line(trained, tmp_path):
    trained_on = next(user for user in KNOWN if split_of(user) == "train")
    new_lake, _ = write_lake(tmp_path, users=len(KNOWN), user_ids={trained_on})
    with pytest.raises(UserError, match="of 1 users found, 1 were trained on"):
        evaluate_champion(Registry(trained, KUAIRAND), other_lake=new_lake)
    with pytest.raises(UserError, match="of 0 users found, 0 were trained on"):
        evaluate_champion(Registry(trained, KUAIRAND), other_lake=Lake(tmp_path / "empty"))


def test_days_of_another_feature_spec_are_evaluated(trained, tmp_path):
    """The columns of the windows do not depend on it."""
    new_lake, _ = write_lake(tmp_path, users=180, seed=5, first_day="2022-05-01", last_day="2022-05-01")
    assert evaluate_champion(Registry(trained, KUAIRAND), other_lake=new_lake)["labels"] > 100


def test_without_journeys_the_users_of_the_training_are_unknown(trained, other_lake, monkeypatch):
    monkeypatch.setattr(Lake, "days", lambda lake, table, dataset: [] if table == "journeys" else [FIRST])
    with pytest.raises(UserError, match="no journeys of kuairand"):
        evaluate_champion(Registry(trained, KUAIRAND), other_lake=other_lake)


def columns_of(labels):
    """Names and arrays, including those of the prediction."""
    arrays = {**labels._asdict(), **labels.prediction._asdict()}
    arrays = {name: array for name, array in arrays.items() if name != "prediction" and array is not None}
    return list(arrays), list(arrays.values())


def test_the_number_of_windows_per_read_does_not_change_predictions(trained, monkeypatch):
    _, model = Registry(trained, KUAIRAND).load_champion()
    table = windows_of(trained).slice(0, 60)
    expected = predict_labels(model, [table], KUAIRAND, with_features=True)
    monkeypatch.setattr("mtorl_model.evaluation.label_predictions.WINDOWS_AT_ONCE", 7)
    in_chunks = predict_labels(model, (table.slice(k, 5) for k in range(0, 60, 5)), KUAIRAND, with_features=True)
    assert expected.feature_NF.shape[1] > 10
    for name, expected_array, array in zip(*columns_of(expected), columns_of(in_chunks)[1], strict=True):
        assert np.allclose(array, expected_array, atol=1e-5), name


def test_labels_of_each_gives_the_predictions_of_each_model(trained):
    model, changed_model = (Registry(trained, KUAIRAND).load_champion()[1] for _ in range(2))
    with torch.no_grad():
        for weight in changed_model.networks[0].parameters():
            weight.mul_(1.1)
    table = windows_of(trained).slice(0, 60)
    models = [model, changed_model]
    # Only the first model's labels have features.
    expected_labels = [predict_labels(m, [table], KUAIRAND, with_features=m is model) for m in models]
    assert not np.array_equal(expected_labels[0].prediction.policy_XA, expected_labels[1].prediction.policy_XA)
    for labels, expected in zip(
        labels_of_each(models, [table], KUAIRAND, with_features=True), expected_labels, strict=True
    ):
        for name, expected_array, array in zip(*columns_of(expected), columns_of(labels)[1], strict=True):
            np.testing.assert_array_equal(array, expected_array, err_msg=name)
    no_label = table.set_column(
        table.schema.get_field_index("is_label"), "is_label",
        pa.array([[False] * len(window) for window in table.column("is_label").to_pylist()]),
    )  # fmt: skip
    assert labels_of_each(models, [no_label], KUAIRAND) is None


def test_the_command_writes_metrics_and_a_table(trained, other_lake, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "metrics.json"
    arguments = ["--dataset", "kuairand", "--lake", str(trained.root)]
    command = [sys.executable, "-m", "mtorl_model.evaluate", *arguments]
    done = subprocess.run(
        [*command, "--sequences", str(other_lake.root), "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(out.read_text())
    assert as_text(metrics) in done.stdout
    assert [p.name for p in out.parent.iterdir()] == ["metrics.json"]
    assert set(metrics) == {
        "protocol", "dataset", "users", "labels", "model_version", "channel", "reward", "policy", "users_left_out",
        "interval", "baselines", "model_minus_baseline", "notes",
    }  # fmt: skip

    wrong_day = ["--split", "test", "--from", "10.4.2022", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments, *wrong_day])
    with pytest.raises(SystemExit) as ended:
        exit_with_one_line(evaluate.main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: '10.4.2022' is not a day: write it as YYYY-MM-DD\n"
    assert json.loads(out.read_text()) == metrics


def test_the_exported_spec_is_the_champions(trained, tmp_path):
    version = export_champion(Registry(trained, KUAIRAND), tmp_path / "champion")
    assert (tmp_path / "champion" / "version.txt").read_text() == f"{version}\n" == "mtorl_kuairand/1\n"
    spec = FeatureSpec.from_json((tmp_path / "champion" / "feature_spec.json").read_text())
    assert spec == Registry(trained, KUAIRAND).load_champion()[1].spec
    assert spec.channels == CHANNELS["kuairand"]


def test_without_a_champion_the_error_is_one_line(other_lake, tmp_path):
    with pytest.raises(UserError, match="no champion"):
        evaluate_champion(Registry(other_lake, KUAIRAND), split="test")
    with pytest.raises(UserError, match="no champion"):
        export_champion(Registry(other_lake, KUAIRAND), tmp_path / "champion")
    assert not (tmp_path / "champion").exists()


def test_copy_previous_by_hand():
    # padding, three steps at distinct times, two steps at one time (the second channel is unknown), a last step
    action = np.array([[-1, 2, 0, 1, 2, -1, 0]])
    times = np.array([[-1, 10, 20, 30, 40, 40, 50]])
    assert previous_channel(action, times).tolist() == [[-1, -1, 2, 0, 1, 1, 2]]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2)), min_size=1, max_size=9), st.integers(0, 3))
def test_copy_previous_is_the_latest_known_channel_of_an_earlier_time(steps, padding):
    channels = [c for c, _ in steps]
    times = np.cumsum([gap for _, gap in steps]).tolist()
    expected = [
        next((channels[j] for j in reversed(range(len(steps))) if times[j] < times[t] and channels[j] >= 0), -1)
        for t in range(len(steps))
    ]
    previous = previous_channel(np.array([[-1] * padding + channels]), np.array([[-1] * padding + times]))
    assert previous[0, padding:].tolist() == expected
