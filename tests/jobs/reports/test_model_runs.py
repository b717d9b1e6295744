"""The training of the model that scored a day, as the registry stores it with the decision about the model."""

import shutil
from pathlib import Path

import pytest
from page import Page
from report_lake import CONTRACT, DATASET, DAY, MODEL, complete_lake, publish_scores

from jobs.reports.day_page import publish_report
from jobs.reports.model_runs import find_run
from lakehouse.lake import Lake
from lakehouse.models.decisions import DECISIONS
from mtorl_model.champion.registry import Registry

EPOCHS = [
    {
        "train_policy": 0.9,
        "valid_policy": 0.95,
        "valid_reward": 0.5,
        "train_click": 0.6,
        "train_conversion": 0.2,
        "monitor": 1.45,
        "monitor_2": 1.5,
    },
    {
        "train_policy": 0.7,
        "valid_policy": 0.8,
        "valid_reward": 0.45,
        "train_click": 0.5,
        "train_conversion": 0.1,
        "monitor": 1.2,
    },
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """The model of the day was fine-tuned from a full training. A later full training has not scored any day."""
    lake = complete_lake(tmp_path_factory.mktemp("models") / "lake")
    registry = Registry(lake, CONTRACT)

    def artifact() -> Path:
        folder = tmp_path_factory.mktemp("artifact")
        (folder / "config.json").write_text("{}")
        return folder

    first = registry.register(artifact(), {"seed": 0}, EPOCHS, identity="one", day="2017-01-01")
    registry.make_champion(first)
    fine_tuned_epochs = [{"train_policy": 0.6}]
    fine_tuned = registry.register(
        artifact(), {"steps": 3}, fine_tuned_epochs, identity="two", day="2017-01-02", parent=first.name
    )
    registry.make_champion(fine_tuned)
    registry.make_champion(registry.register(artifact(), {}, EPOCHS[:1], identity="three", day="2017-01-03"))
    registry.write_lineage(fine_tuned, "0" * 12, {})
    assert fine_tuned.name == MODEL  # the lake's policies name it
    return lake


def test_a_version_descends_from_its_full_training(lake):
    run = find_run(lake, DATASET, "mtorl_criteo/2")
    assert (run.full_training, run.fine_tuned, run.trained_through) == ("mtorl_criteo/1", 1, "2017-01-02")
    assert run.curves["valid_policy"] == {1: 0.95, 2: 0.8}
    assert run.curves["monitor_2"] == {1: 1.5}  # the second model stopped early
    assert find_run(lake, DATASET, "mtorl_criteo/1").run_id != run.run_id
    assert find_run(lake, DATASET, "mtorl_criteo/3").fine_tuned == 0


def test_an_unknown_version_or_a_lake_without_models_has_no_run(lake, tmp_path):
    assert find_run(lake, DATASET, "mtorl_criteo/9") is None
    assert find_run(lake, "kuairand", "mtorl_kuairand/1") is None
    assert find_run(Lake(tmp_path), DATASET, "mtorl_criteo/2") is None
    assert not list(tmp_path.iterdir())


def test_the_page_shows_the_curves_and_how_to_find_the_run(lake):
    page = Page(publish_report(lake, CONTRACT, DAY).read_text())
    assert (
        page.picture("Loss of the channel by epoch")
        == "training users: 0.9 (1), 0.7 (2); unseen users: 0.95 (1), 0.8 (2)"
    )
    # Mean of the training losses of both gains, as the validation loss is.
    assert page.picture("Loss of the reward by epoch") == (
        "training users: 0.4 (1), 0.3 (2); unseen users: 0.5 (1), 0.45 (2)"
    )
    assert page.picture("Loss of unseen users") == "model 1: 1.45 (1), 1.2 (2); model 2: 1.5 (1)"
    run = find_run(lake, DATASET, "mtorl_criteo/2")
    section = page.section("training")
    assert "trained from scratch as mtorl_criteo/1, then fine-tuned on 1 day, one by one, last on 2017-01-02" in section
    assert f"/runs/{run.run_id}" in section
    (lineage,) = [link for link in page.links if "model_lineage" in link]
    assert (lake.reports(DATASET) / lineage).is_file()


def test_a_model_without_a_decision_is_reported_in_one_line(lake, tmp_path):
    shutil.copytree(lake.root, tmp_path / "lake")
    copy = Lake(tmp_path / "lake")
    shutil.rmtree(copy.table(DECISIONS, DATASET))
    publish_scores(copy, DAY)
    page = Page(publish_report(copy, CONTRACT, DAY).read_text())
    assert "scored by mtorl_criteo/2. The lake has no decision about it, so there are no curves." in page.section(
        "training"
    )
