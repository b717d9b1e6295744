"""Model folders, the registry on a real MLflow store, and the training entry point end to end."""

import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import synthetic
import torch

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import scratch_folder
from mtorl_model import train
from mtorl_model.champion import mlflow_store
from mtorl_model.champion.mlflow_store import tracking_uri
from mtorl_model.champion.registry import Registry
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import PRIOR_EXPOSURES, InitialPolicy, fit_initial_policy
from mtorl_model.data.windows.store import WindowsInMemory, WindowStore, open_windows
from mtorl_model.methods.common.networks.members import merged_curves
from mtorl_model.methods.model_folder import FILES, WEIGHTS, load_model, save_model
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.train import train_champion
from mtorl_model.training.checksums import CHECKSUMS, write_checksums
from mtorl_model.training.config import TrainConfig
from mtorl_model.training.loop import Epoch, History
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
DAYS = ("2022-04-10", "2022-04-11")
POLICY = InitialPolicy(("short", "mid", "long"), (0.2, 0.3, 0.5), {"click": 0.25, "long_view": 0.125}, (0.5, 0.4, 0.1))
CONFIG = MTORLConfig(ModelConfig(hidden=16), LossConfig(), TrainConfig(batch_size=64, max_epochs=2, device="cpu"))


@pytest.fixture
def store(synthetic_lake: tuple[Lake, FeatureSpec]) -> WindowStore:
    lake, spec = synthetic_lake
    return open_windows(lake, Encoder(spec, KUAIRAND), *DAYS, "train")


def saved(folder: Path, spec: FeatureSpec, seed: int = 0) -> MTORL:
    """A model folder of an untrained model."""
    model = MTORL(CONFIG.changed({"seed": seed}), spec, POLICY).initialise()
    save_model(folder, model)
    return model


def test_a_loaded_model_equals_the_saved_one(
    synthetic_lake: tuple[Lake, FeatureSpec], store: WindowStore, tmp_path: Path
) -> None:
    model = saved(tmp_path / "model", synthetic_lake[1])
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, MTORL)
    assert (loaded.config, loaded.spec, loaded.initial_policy) == (model.config, model.spec, POLICY)
    assert loaded.networks[0].sizes == model.networks[0].sizes
    batch = next(store.in_order(32))
    with torch.no_grad():
        for expected, output in zip(model.networks[0].eval()(batch), loaded.networks[0].eval()(batch), strict=True):
            assert torch.equal(output, expected)


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_file_that_contains_code_is_refused_and_the_code_is_not_run(
    synthetic_lake: tuple[Lake, FeatureSpec], tmp_path: Path
) -> None:
    saved(tmp_path / "model", synthetic_lake[1])
    trace = tmp_path / "executed"
    for write in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        write({"action.weight": _Code(trace)}, tmp_path / "model" / WEIGHTS)
        write_checksums(tmp_path / "model", FILES)
        with pytest.raises(UserError, match="not a file of plain tensors"):
            load_model(tmp_path / "model")
    assert not trace.exists()


def test_a_broken_folder_is_an_error_of_one_line(synthetic_lake: tuple[Lake, FeatureSpec], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    saved(folder, synthetic_lake[1])
    weights = (folder / WEIGHTS).read_bytes()
    for length in range(0, len(weights), len(weights) // 7):
        (folder / WEIGHTS).write_bytes(weights[:length])
        write_checksums(folder, FILES)
        with pytest.raises(UserError, match="not a file of plain tensors"):
            load_model(folder)
    torch.save({"other": torch.zeros(1)}, folder / WEIGHTS)
    write_checksums(folder, FILES)
    with pytest.raises(UserError, match="does not fit"):
        load_model(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"lacks weights\.pt"):
        load_model(folder)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_of_a_model_is_an_error_of_one_line(
    synthetic_lake: tuple[Lake, FeatureSpec], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "model"
    saved(folder, synthetic_lake[1])
    content = (folder / name).read_bytes()
    for position in range(0, len(content), len(content) // 5):
        damaged = bytearray(content)
        damaged[position] ^= 1
        (folder / name).write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{re.escape(name)} is damaged.*make rollback"):
            load_model(folder)
    (folder / name).write_bytes(content)
    load_model(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"weights.pt": 7}'])
def test_damaged_checksums_are_an_error_of_one_line(
    synthetic_lake: tuple[Lake, FeatureSpec], tmp_path: Path, content: str
) -> None:
    folder = tmp_path / "model"
    saved(folder, synthetic_lake[1])
    (folder / CHECKSUMS).write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        load_model(folder)
    (folder / CHECKSUMS).unlink()
    with pytest.raises(UserError, match=r"lacks checksums\.json"):
        load_model(folder)


def test_the_initial_policy_is_proportional_to_the_click_rates(
    synthetic_lake: tuple[Lake, FeatureSpec], store: WindowStore
) -> None:
    spec = synthetic_lake[1]
    policy = fit_initial_policy(store, spec)
    exposures, clicks, views = np.zeros(3), np.zeros(3), 0.0
    for batch in store.in_order(50):
        for channel, gains in zip(batch.action_BL[batch.label_BL], batch.gains_BLG[batch.label_BL], strict=True):
            exposures[channel] += 1
            clicks[channel] += float(gains[0])
            views += float(gains[1])
    rate = clicks.sum() / exposures.sum()
    ctr = (clicks + PRIOR_EXPOSURES * rate) / (exposures + PRIOR_EXPOSURES)
    assert policy.channels == spec.channels
    assert policy.probabilities == pytest.approx(ctr / ctr.sum())
    assert policy.gain_rates == pytest.approx({"click": rate, "long_view": views / exposures.sum()})
    assert InitialPolicy.from_json(policy.to_json()) == policy


def test_without_any_click_all_channels_are_equal(synthetic_lake: tuple[Lake, FeatureSpec], store: WindowStore) -> None:
    windows = store.windows.take(slice(None))
    without_gains = WindowsInMemory(windows._replace(gains_NLG=np.zeros_like(windows.gains_NLG)))
    assert fit_initial_policy(without_gains, synthetic_lake[1]).probabilities == pytest.approx([1 / 3] * 3)


def crown(lake: Lake, folder: Path, params: dict[str, object], curves: list[dict[str, float]]) -> str:
    """Register a model folder and make it champion."""
    registry = Registry(lake, KUAIRAND)
    version = registry.register(folder, params, curves, identity=str(params), day=DAYS[-1])
    registry.make_champion(version)
    return version.name


@pytest.mark.slow
def test_the_champion_is_the_version_set_last_and_moves_with_its_lake(
    synthetic_lake: tuple[Lake, FeatureSpec], tmp_path: Path
) -> None:
    lake, spec = Lake(tmp_path / "lake"), synthetic_lake[1]
    with pytest.raises(UserError, match="no champion model for kuairand"):
        Registry(lake, KUAIRAND).load_champion()
    losses = [({"total": 5, "click": 2}, {"policy": 1, "reward": 0.5}), ({"total": 4}, {"policy": 0.5, "reward": 0.25})]
    histories = [History([Epoch(*epoch) for epoch in losses])]
    first, second = saved(tmp_path / "a", spec, seed=1), saved(tmp_path / "b", spec, seed=2)
    files = {f"model/{path.name}" for path in (tmp_path / "a").iterdir()}
    assert crown(lake, tmp_path / "a", {"seed": 1}, merged_curves(histories)) == "mtorl_kuairand/1"
    assert crown(lake, tmp_path / "b", {"seed": 2}, merged_curves(histories * 2)) == "mtorl_kuairand/2"
    with pytest.raises(UserError, match="no champion model for criteo"):
        Registry(lake, get_dataset("criteo")).load_champion()

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri(lake), tracking_uri(lake))
    assert int(client.get_model_version_by_alias("mtorl_kuairand", "champion").version) == 2
    run = client.get_run(client.get_model_version("mtorl_kuairand", "1").run_id)
    assert run.data.params == {"seed": "1"}
    curve = client.get_metric_history(run.info.run_id, "monitor")
    assert [(m.step, m.value) for m in curve] == [(1, 1.5), (2, 0.75)]
    assert {file.path for file in client.list_artifacts(run.info.run_id, "model")} == files

    moved = Lake(tmp_path / "moved")
    shutil.move(lake.root, moved.root)
    shutil.rmtree(scratch_folder("models"))  # as on another machine
    version, champion = Registry(moved, KUAIRAND).load_champion()
    assert version == "mtorl_kuairand/2"
    for name, weight in champion.networks[0].state_dict().items():
        assert torch.equal(weight, second.networks[0].state_dict()[name])
    assert not torch.equal(champion.networks[0].action.weight, first.networks[0].action.weight)

    # A copy of a lake leaves the models of the original alone.
    copy = Lake(tmp_path / "copy")
    shutil.copytree(moved.root, copy.root)
    saved(tmp_path / "c", spec, seed=3)
    files_before = set(moved.root.rglob("*"))
    assert crown(copy, tmp_path / "c", {"seed": 3}, []) == "mtorl_kuairand/3"
    assert set(moved.root.rglob("*")) == files_before
    shutil.rmtree(scratch_folder("models"))
    assert Registry(copy, KUAIRAND).load_champion()[0] == "mtorl_kuairand/3"
    assert not lake.root.exists()

    # The champion is copied once more: a machine that has its copy needs no MLflow.
    Registry(moved, KUAIRAND).load_champion()
    # A program that only reads the registry imports neither MLflow nor torch; that would cost each daily step seconds.
    code = "import sys, mtorl_model.export_champion as e; e.main(); print({'mlflow', 'torch'} & {*sys.modules})"
    arguments = ["--dataset", "kuairand", "--lake", str(moved.root), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [f"mtorl_kuairand/2 -> {tmp_path / 'out'}", "set()"]


def train_command(lake: Path, *arguments: str, dataset: str = "kuairand") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mtorl_model.train", "--dataset", dataset, "--lake", str(lake), "--device", "cpu"]
    return subprocess.run(
        [*command, "--from", DAYS[0], "--to", DAYS[1], *arguments],
        cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_entry_point_trains_and_registers(tmp_path: Path, empty_scratch: Path) -> None:
    lake, spec = synthetic.write_lake(tmp_path / "lake", users=40)
    mlflow_store.create_store(lake)  # here it is a copy
    done = train_command(lake.root, "--max-epochs", "1", "--members", "1", "--set", "trees=false")
    assert done.returncode == 0, done.stderr
    epoch, first, *_ = done.stdout.splitlines()
    assert re.fullmatch(
        r"epoch 1: validation loss \d\.\d{4}", epoch
    )  # bin/embedded_airflow/progress.py parses this line
    assert first.startswith("mtorl_kuairand/1 is the champion of kuairand")
    assert done.stderr == ""
    assert not list(scratch_folder("checkpoints").rglob("*.pt"))
    version, champion = Registry(lake, KUAIRAND).load_champion()
    assert (version, champion.spec) == ("mtorl_kuairand/1", spec)


@pytest.mark.slow
def test_a_training_killed_before_it_registers_is_not_repeated(
    tmp_path: Path, empty_scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, _ = synthetic.write_lake(tmp_path / "lake", users=40)
    two_members = CONFIG.changed({"members": 2})

    def killed(*args: object, **kwargs: object) -> Version:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "register", killed)
        with pytest.raises(KeyboardInterrupt):
            train_champion(lake, KUAIRAND, *DAYS, MTORL, two_members)
    assert len(list(scratch_folder("checkpoints").rglob("*.pt"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.training.loop._Training.optimise", None)
        lines = train_champion(lake, KUAIRAND, *DAYS, MTORL, two_members)
    assert lines[0].startswith("mtorl_kuairand/1 is the champion")
    assert not list(scratch_folder("checkpoints").rglob("*.pt"))


@pytest.mark.slow
def test_members_differ_by_seed_and_their_predictions_are_averaged(tmp_path: Path) -> None:
    lake, spec = synthetic.write_lake(tmp_path, users=40)
    tau = 0.5
    config = CONFIG.changed({"prior_adjustment": tau, "members": 2, "seed": 3})
    train_champion(lake, KUAIRAND, *DAYS, MTORL, config)
    _, champion = Registry(lake, KUAIRAND).load_champion()
    (batch,) = open_windows(lake, Encoder(spec, KUAIRAND), *DAYS, "validation").in_order(1000)
    outputs = []
    for model in champion.networks:
        with torch.no_grad():
            output = model.eval()(batch)
            outputs.append((model.policy(output).double(), model.predicted_gains(output).double()))
    assert len(outputs) == 2
    assert not torch.allclose(outputs[0][1], outputs[1][1])
    policy_BLA, gains_BLG = (torch.stack(per_member).mean(0).numpy() for per_member in zip(*outputs, strict=True))
    weighed_BLA = policy_BLA / np.array(champion.initial_policy.channel_shares) ** tau
    predicted = champion.predict(batch)
    assert np.allclose(predicted.gains_XG, gains_BLG)
    assert np.allclose(predicted.policy_XA, weighed_BLA / weighed_BLA.sum(-1, keepdims=True))
    assert np.allclose(predicted.policy_XA.sum(-1), 1)


def without_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the registry, so that training does not wait seconds for MLflow."""
    monkeypatch.setattr(Registry, "find_version", lambda *args: None)
    monkeypatch.setattr(Registry, "make_champion", lambda *args: None)
    monkeypatch.setattr("mtorl_model.train.export_for_daily_run", lambda *args: None)
    monkeypatch.setattr(Registry, "write_lineage", lambda *args: None)
    version = Version("mtorl_kuairand/1", 1, "run", DAYS[-1], "identity")
    monkeypatch.setattr(Registry, "register", lambda *args, **kwargs: version)


@pytest.mark.slow
def test_training_uses_the_spec_of_the_given_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_registry(monkeypatch)
    lake, spec = synthetic.write_lake(tmp_path, users=40)
    newer = replace(spec, last_day="2022-05-08")
    synthetic.publish_spec(lake, KUAIRAND, newer)
    assert train_champion(lake, KUAIRAND, *DAYS, MTORL, CONFIG, spec_day=DAYS[-1])
    trained_with = []
    monkeypatch.setattr("mtorl_model.train.open_training", lambda *args: trained_with.append(args[4]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_champion(lake, KUAIRAND, *DAYS, MTORL, CONFIG)
    assert trained_with == [newer]  # without a day: the newest one
    with pytest.raises(UserError, match="no feature_spec for kuairand on 2022-04-01"):
        train_champion(lake, KUAIRAND, *DAYS, MTORL, CONFIG, spec_day="2022-04-01")


@pytest.mark.slow
def test_each_config_and_range_of_days_has_its_own_checkpoint(
    tmp_path: Path, empty_scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_registry(monkeypatch)
    monkeypatch.setattr("mtorl_model.train.shutil.rmtree", lambda path, **kwargs: None)
    lake, _ = synthetic.write_lake(tmp_path / "lake", users=40)
    train_champion(lake, KUAIRAND, *DAYS, MTORL, CONFIG)
    train_champion(lake, KUAIRAND, *DAYS, MTORL, CONFIG.changed({"seed": 1}))
    train_champion(lake, KUAIRAND, DAYS[0], DAYS[0], MTORL, CONFIG)
    train_champion(lake, KUAIRAND, *DAYS, MTORL, CONFIG)
    assert len(list(scratch_folder("checkpoints").rglob("*.pt"))) == 3


def test_the_entry_point_prints_one_line_about_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset", "kuairand", "--lake", str(tmp_path), "--from", DAYS[0], "--to", DAYS[1]]
    monkeypatch.setattr(sys, "argv", ["train", *flags])
    with pytest.raises(SystemExit) as end:
        exit_with_one_line(train.main)
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert printed.err.startswith("error: no feature spec for kuairand in")
    assert printed.err.count("\n") == 1
