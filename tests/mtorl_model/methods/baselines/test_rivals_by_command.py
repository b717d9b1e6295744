"""LightGBM and TabM are trained, scored and evaluated by `--method`, like any other method."""

import json
import sys
from pathlib import Path

import pytest
import synthetic
from optional_methods import parameters

from benchmarks.inputs.made_up_journeys import DAY, publish_journeys
from mtorl_model import evaluate, score, train
from mtorl_model.studies.baselines.spaces import RIVALS
from schemas.dataset import get_dataset

FIRST, LAST = "2022-04-10", "2022-04-11"


@pytest.mark.slow
@pytest.mark.parametrize("name", parameters(RIVALS))
def test_a_rival_passes_through_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lake, spec = synthetic.write_lake(tmp_path / "lake", "kuairand", FIRST, LAST, users=120, daily=4)
    publish_journeys(lake, get_dataset("kuairand"), spec, 50)
    metrics_file = tmp_path / "metrics.json"
    for module, flags in (
        (train, ("--from", FIRST, "--to", LAST)),
        (score, ("--day", DAY)),
        (evaluate, ("--split", "test", "--out", str(metrics_file))),
    ):
        arguments = ["command", "--dataset", "kuairand", "--lake", str(lake.root), "--method", name, *flags]
        monkeypatch.setattr(sys, "argv", arguments)
        module.main()
    policies = lake["channel_policies", "kuairand", DAY].read().to_pydict()
    assert set(policies["model_version"]) == {f"{name}_kuairand/1"}
    assert "model" in policies["source"]
    metrics = json.loads(metrics_file.read_text())
    assert metrics["model_version"] == f"{name}_kuairand/1"
    assert metrics["channel"]["f1_macro"] > metrics["baselines"]["channel"]["most_popular"]["f1_macro"]
    assert 0 < metrics["reward"]["click"]["auc"] < 1
