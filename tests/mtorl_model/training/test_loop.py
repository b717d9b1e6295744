"""Training a tiny model on the synthetic lake; tests of kills really kill a subprocess."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lakehouse.lake import Lake
from mtorl_model.champion.training_inputs import TrainingInputs
from mtorl_model.data.device import choose_device
from mtorl_model.data.encoding import Encoded, Encoder, input_sizes
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows.store import WindowsInMemory, WindowStore, open_windows
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.losses import MTORLLoss, policy_loss
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.methods.mtorl.network import Network
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS
from mtorl_model.train import _identity
from mtorl_model.training import loop
from mtorl_model.training.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from mtorl_model.training.config import FineTuneConfig, TrainConfig
from mtorl_model.training.loop import CHECKPOINT_FILE, Epoch, History, fine_tune, fit
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
TINY = ModelConfig(hidden=16, dropout=0.1)
CONFIG = TrainConfig(batch_size=32, learning_rate=3e-3, schedule="cosine", gradient_clip=1.0, max_epochs=3,
                     checkpoint_every=4, seed=5, device="cpu")  # fmt: skip

Weights = dict[str, torch.Tensor]


class Setup:
    """The synthetic lake's stores, and a training on them."""

    def __init__(self, lake: Lake, spec: FeatureSpec) -> None:
        self.lake, self.spec = lake, spec

    def store(self, split: str, form: str = "binary") -> WindowStore:
        encoder = Encoder(self.spec, get_dataset(self.spec.dataset), REWARD_FORMS[form].inputs)
        return open_windows(self.lake, encoder, self.spec.first_day, self.spec.last_day, split)

    def model(self, config: ModelConfig = TINY, seed: int = 5) -> Network:
        torch.manual_seed(seed)
        return Network(config, input_sizes(self.spec, config.form.inputs))

    def objective(self, losses: LossConfig | None = None, form: str = "binary") -> MTORLLoss:
        return MTORLLoss(losses or LossConfig(), REWARD_FORMS[form], self.spec.gains)

    def weights(self, config: TrainConfig = CONFIG, checkpoints: Path | None = None) -> Weights:
        model = self.model(seed=config.seed)
        fit(model, self.store("train"), self.store("validation"), self.objective(), config, checkpoints=checkpoints)
        return model.state_dict()


@pytest.fixture
def setup(synthetic_lake: tuple[Lake, FeatureSpec]) -> Setup:
    return Setup(*synthetic_lake)


def new_training(setup: Setup, config: TrainConfig) -> Any:
    return loop._Training(setup.model(), setup.store("train"), setup.store("validation"), setup.objective(), config)


def equal(weights: Weights, expected: Weights) -> bool:
    return weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)


DYING = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
import torch
torch.set_num_threads(1)
from mtorl_model.training import loop
from lakehouse.lake import Lake
from lakehouse.feature_specs import latest_spec
import test_loop
optimise = loop._Training.optimise
def dying(self, batch):
    optimise(self, batch)
    if self.steps_done == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
loop._Training.optimise = dying
lake = Lake(Path({lake!r}))
setup = test_loop.Setup(lake, latest_spec(lake, "kuairand")[0])
setup.weights(test_loop.replace(test_loop.CONFIG, device={device!r}), Path({checkpoints!r}))
"""


def run_until_killed(setup: Setup, checkpoints: Path, step: int, device: str = "cpu") -> None:
    script = DYING.format(
        paths=sys.path, step=step, lake=str(setup.lake.root), checkpoints=str(checkpoints), device=device
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(setup: Setup, tmp_path: Path) -> None:
    steps = setup.store("train").steps_per_epoch(CONFIG.batch_size)
    assert steps % CONFIG.checkpoint_every != 0
    uninterrupted = setup.weights()
    run_until_killed(setup, tmp_path, step=steps + 5)  # in the second epoch, after a checkpoint within it
    state = load_checkpoint(tmp_path / CHECKPOINT_FILE, "")
    assert state is not None
    assert len(state["history"]) == 1
    assert state["step"] > 0
    assert equal(setup.weights(checkpoints=tmp_path), uninterrupted)


def test_one_seed_always_gives_the_same_weights_and_another_seed_different_ones(setup: Setup) -> None:
    first = setup.weights()
    assert equal(setup.weights(), first)
    assert not equal(setup.weights(replace(CONFIG, seed=6)), first)


def test_a_finished_training_takes_no_further_step(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = setup.weights(checkpoints=tmp_path)
    monkeypatch.setattr(loop._Training, "optimise", None)
    assert equal(setup.weights(checkpoints=tmp_path), done)


@pytest.mark.slow
@pytest.mark.parametrize("form", REWARD_FORMS)
def test_policy_and_reward_are_learned(setup: Setup, form: str) -> None:
    model = setup.model(replace(TINY, reward_form=form))
    config = replace(CONFIG, max_epochs=12, learning_rate=1e-2)
    losses = LossConfig(mu=5.0, dpo_weight=0.0)
    history = fit(
        model, setup.store("train", form), setup.store("validation", form), setup.objective(losses, form), config
    )
    first, last = history.epochs[0], history.epochs[-1]
    assert last.train["policy"] < 0.8 * first.train["policy"]
    assert last.valid["policy"] < 0.8 * first.valid["policy"]
    for name in REWARD_FORMS[form].loss_names(setup.spec.gains):
        assert last.train[name] < 0.85 * first.train[name]
    # The two forms with numbers learn little more about other users than the mean, in the first epoch.
    untrained = fit(
        setup.model(replace(TINY, reward_form=form)), setup.store("train", form), setup.store("validation", form),
        setup.objective(losses, form), replace(config, max_epochs=1, learning_rate=1e-12),
    )  # fmt: skip
    assert last.valid["reward"] < 0.95 * untrained.best.valid["reward"]


@pytest.mark.slow
def test_preferences_are_learned(setup: Setup) -> None:
    config = replace(CONFIG, max_epochs=12, learning_rate=1e-2)
    losses = LossConfig(mu=0.0, dpo_weight=20.0, beta=1.0)
    epochs = fit(setup.model(), setup.store("train"), setup.store("validation"), setup.objective(losses), config).epochs
    assert epochs[-1].train["dpo"] < 0.95 * epochs[0].train["dpo"]


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["kuairand", "criteo"])
def test_64_windows_can_be_overfitted(dataset: str, tmp_path: Path) -> None:
    setup = Setup(*synthetic.write_lake(tmp_path, dataset))
    windows_64 = WindowsInMemory(setup.store("train").windows.take(slice(0, 64)))
    model = setup.model(ModelConfig(hidden=64, dropout=0.0))
    config = replace(CONFIG, batch_size=64, max_epochs=160, patience=160, learning_rate=1e-2)
    fit(model, windows_64, windows_64, setup.objective(LossConfig(dpo_weight=0.0)), config)
    batch = windows_64.windows.batch()
    with torch.no_grad():
        assert policy_loss(model.eval()(batch), batch) < 0.05


def test_training_stops_after_patience_epochs_with_the_best_weights(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitors = iter([3.0, 1.0, 1.0, 2.0, 0.5])
    seen: list[Weights] = []

    def validate(run: Any) -> dict[str, float]:
        seen.append({name: weight.clone() for name, weight in run.network.state_dict().items()})
        return {"policy": next(monitors), "reward": 0.0}

    monkeypatch.setattr(loop._Training, "_validate", validate)
    model = setup.model()
    config = replace(CONFIG, max_epochs=50, patience=2)
    history = fit(model, setup.store("train"), setup.store("validation"), setup.objective(), config)
    assert [epoch.monitor for epoch in history.epochs] == [3.0, 1.0, 1.0, 2.0]
    assert history.best_epoch == 1
    assert equal(model.state_dict(), seen[1])
    assert not equal(seen[1], seen[-1])


def test_the_monitor_is_the_mean_over_validation_labels_for_any_batch_size(setup: Setup) -> None:
    def losses(batch_size: int) -> list[float]:
        return list(new_training(setup, replace(CONFIG, batch_size=batch_size))._validate().values())

    assert losses(7) == pytest.approx(losses(1000), rel=1e-5)


def rates_of(run: Any) -> list[float]:
    rates = []
    for step in range(run.config.max_epochs * run.steps_per_epoch):
        run.step = step
        rates.append(run._rate())
    return rates


def test_the_learning_rate_is_constant_as_in_the_paper(setup: Setup) -> None:
    assert set(rates_of(new_training(setup, replace(CONFIG, schedule="constant")))) == {1.0}


def test_the_cosine_learning_rate_rises_then_falls(setup: Setup) -> None:
    rates = rates_of(new_training(setup, replace(CONFIG, max_epochs=40)))
    top = int(np.argmax(rates))
    assert 0 < top < 0.1 * len(rates)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert 0.9 < max(rates) <= 1.0
    assert rates[-1] < 0.06


@pytest.mark.parametrize(("clip", "clipped"), [(0.0, False), (1e-3, True)])
def test_the_gradient_is_clipped_only_if_the_config_says_so(setup: Setup, clip: float, clipped: bool) -> None:
    run = new_training(setup, replace(CONFIG, gradient_clip=clip))
    next(run.train_epoch())
    norm = torch.nn.utils.get_total_norm([p.grad for p in run.network.parameters() if p.grad is not None])
    assert bool(norm <= 1.001e-3) is clipped


def test_a_loss_that_is_not_a_number_ends_the_training(setup: Setup) -> None:
    model = setup.model()
    with torch.no_grad():
        model.action.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="training diverged: a loss of epoch 1"):
        fit(model, setup.store("train"), setup.store("validation"), setup.objective(), CONFIG)


def test_a_checkpoint_of_another_training_is_refused(setup: Setup, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / CHECKPOINT_FILE, "spec a", {"step": 1})
    with pytest.raises(UserError, match="other configs, features or data"):
        fit(setup.model(), setup.store("train"), setup.store("validation"), setup.objective(), CONFIG,
            checkpoints=tmp_path, identity="spec b")  # fmt: skip


def test_a_damaged_checkpoint_is_named_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / CHECKPOINT_FILE
    save_checkpoint(path, "spec", {"weights": torch.arange(1000.0)})
    content = path.read_bytes()
    for position in (0, 70, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert load_checkpoint(path, "spec") is None
        assert capsys.readouterr().out == f"the checkpoint {path} is damaged: this part of the training starts over\n"
    path.write_bytes(content)
    assert load_checkpoint(path, "spec")["weights"].tolist() == list(range(1000))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    save_tensors(path, {"x": torch.arange(3)})

    def half(content: object, file: Any) -> None:
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space"):
        save_tensors(path, {"x": torch.arange(4)})
    assert load_tensors(path)["x"].tolist() == [0, 1, 2]


def test_devices_are_named_auto_cpu_or_cuda() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="unknown device 'tpu'"):
        choose_device("tpu")


def test_trainings_on_gpu_and_cpu_have_different_identities(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    train, valid = setup.store("train"), setup.store("validation")
    inputs = TrainingInputs(train, valid, (train.key, valid.key), fit_initial_policy(train, setup.spec), "", {})

    def identity(device: str, has_gpu: bool) -> str:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
        config = MTORLConfig(TINY, LossConfig(), replace(CONFIG, device=device))
        return json.dumps(_identity(MTORL, config, "spec", inputs))

    assert identity("auto", has_gpu=True) == identity("cuda", has_gpu=True) != identity("auto", has_gpu=False)
    assert identity("auto", has_gpu=False) == identity("cpu", has_gpu=True)


@pytest.mark.slow
def test_the_network_compiles_as_one_graph(setup: Setup) -> None:
    batch, model = next(setup.store("train").in_order(8)), setup.model().eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # raises at the first break
    torch.testing.assert_close(compiled(batch).action_logits_BLA, model(batch).action_logits_BLA)


@pytest.fixture
def compiled_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """For each graph compiled so far, the sizes of its inputs. The graphs run uncompiled."""
    graphs: list[tuple[Any, ...]] = []

    def backend(graph: Any, inputs: list[Any]) -> Any:
        graphs.append(tuple(tuple(x.shape) if isinstance(x, torch.Tensor) else "any size" for x in inputs))
        return graph

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **settings: compile_(model, backend=backend, **settings))
    monkeypatch.setattr(loop, "_can_build", lambda: True)
    torch.compiler.reset()
    yield graphs
    torch.compiler.reset()


@pytest.mark.slow
def test_the_graphs_compiled_for_a_batch_do_not_depend_on_earlier_batches(
    setup: Setup, compiled_for: list[Any]
) -> None:
    """Otherwise a resumed training would compute with other kernels than an uninterrupted one."""
    full, ragged = (next(setup.store("train").in_order(size)) for size in (32, 7))
    graphs = []
    for order in ([full, ragged, full], [ragged, full]):
        torch.compiler.reset()
        compiled_for.clear()
        compiled = loop._compiled(setup.model())
        for batch in order:
            compiled(batch)
        graphs.append(set(compiled_for))
    assert graphs[0] == graphs[1]
    assert len(graphs[0]) == 2


@pytest.mark.slow
def test_every_architecture_of_a_study_is_compiled(
    setup: Setup, compiled_for: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "choose_device", lambda _: torch.device("cuda"))
    batch, architectures = next(setup.store("train").in_order(8)), 10
    assert architectures > torch._dynamo.config.recompile_limit
    for hidden in range(8, 8 * (architectures + 1), 8):
        loop.forget_compiled(CONFIG)
        loop._compiled(setup.model(replace(TINY, hidden=hidden, heads=1)))(batch)
    assert len(compiled_for) == architectures


@pytest.mark.parametrize("missing", [None, "compiler", "headers"])
def test_without_compiler_or_headers_the_gpu_trains_uncompiled(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    missing: str | None,
) -> None:  # fmt: skip
    (tmp_path / "Python.h").touch()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: "compiled")
    monkeypatch.setattr(loop.shutil, "which", lambda name: name if missing != "compiler" else None)
    monkeypatch.setattr(
        loop.sysconfig, "get_path", lambda *_: str(tmp_path if missing != "headers" else tmp_path / "none")
    )
    model = setup.model()
    assert loop._compiled(model) == (model if missing else "compiled")
    assert capsys.readouterr().err.count("\n") == (1 if missing else 0)


@pytest.mark.slow
@pytest.mark.parametrize("form", REWARD_FORMS)
def test_micro_batches_give_the_loss_curve_of_the_whole_batch(setup: Setup, form: str) -> None:
    """Without dropout and preference pairs, because each part has its own draws of them."""
    curves = []
    for parts in (1, 3):
        model = setup.model(replace(TINY, reward_form=form, dropout=0.0))
        config = replace(CONFIG, micro_batches=parts)
        losses = LossConfig(mu=0.5, dpo_weight=0.0)
        history = fit(
            model, setup.store("train", form), setup.store("validation", form), setup.objective(losses, form), config
        )
        # The preference loss has weight 0 and uses other pairs.
        weighed = [name for name in history.epochs[0].train if name != "dpo"]
        curves.append([x for e in history.epochs for x in (*(e.train[name] for name in weighed), e.monitor)])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert history.epochs[-1].train["policy"] < 0.99 * history.epochs[0].train["policy"]  # the model has learned


def test_the_draws_of_a_part_depend_only_on_seed_step_and_part(setup: Setup) -> None:
    run = new_training(setup, replace(CONFIG, micro_batches=2))
    seeds = [run._seeds(part) for part in range(2)]
    assert len({seed for part_seeds in seeds for seed in part_seeds}) == 4
    torch.rand(3)
    assert [run._seeds(part) for part in range(2)] == seeds
    for epochs, step in ((0, 1), (1, 0)):
        run = new_training(setup, replace(CONFIG, micro_batches=2))
        run.history.epochs += [Epoch({}, {})] * epochs
        run.step = step
        assert not {*run._seeds(0)} & {seed for part_seeds in seeds for seed in part_seeds}


class NoValueIsRead(TorchDispatchMode):
    """Fails on operations for which the host waits for the device: those that need a tensor's values on the host."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "bincount")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert not any(name.startswith(read) for read in self.READS), f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), f"{name} by a mask waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("form", REWARD_FORMS)
def test_the_host_does_not_wait_for_a_device_within_a_step(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, form: str, parts: int
) -> None:
    model = setup.model(replace(TINY, reward_form=form, category_dropout=0.2))
    stores = setup.store("train", form), setup.store("validation", form)
    run = loop._Training(model, *stores, setup.objective(form=form), replace(CONFIG, micro_batches=parts))
    batches = list(stores[0].batches(32, seed=0, epoch=0, parts=parts))[: 2 * parts]
    run.forward.train()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a tensor's values were read within a step")

    with monkeypatch.context() as patch, NoValueIsRead():
        for reading in ("item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__float__", "__int__"):
            patch.setattr(torch.Tensor, reading, refuse)
        run.optimise(batches[:parts])
        run.optimise(batches[parts:])
    assert run.step == 2


def test_new_tensors_are_not_filled_while_training(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    is_filling = []
    original_optimise = loop._Training.optimise

    def recording_optimise(run: Any, parts: Any) -> None:
        is_filling.append(torch.utils.deterministic.fill_uninitialized_memory)  # type: ignore[attr-defined]
        original_optimise(run, parts)

    monkeypatch.setattr(loop._Training, "optimise", recording_optimise)
    setup.weights(replace(CONFIG, max_epochs=1))
    assert is_filling
    assert set(is_filling) == {False}
    assert torch.utils.deterministic.fill_uninitialized_memory is True  # type: ignore[attr-defined]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use on this machine")
def test_the_host_does_not_wait_for_the_gpu_within_a_step(setup: Setup) -> None:
    run = new_training(setup, replace(CONFIG, device="cuda"))
    steps = run.train_epoch()
    next(steps)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(steps)
        next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use on this machine")
def test_a_killed_training_on_the_gpu_resumes_to_the_same_bits(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second epoch; by then the uninterrupted training has used the smaller last batch of an epoch."""
    config, store = replace(CONFIG, device="cuda"), setup.store("train")
    model = setup.model()
    history = fit(model, store, setup.store("validation"), setup.objective(), config)
    assert history.epochs[-1].train["total"] < history.epochs[0].train["total"]
    assert {weight.device.type for weight in model.state_dict().values()} == {"cuda"}
    assert len(store) % CONFIG.batch_size
    run_until_killed(setup, tmp_path, step=store.steps_per_epoch(CONFIG.batch_size) + 5, device="cuda")
    torch.compiler.reset()  # like a new process, which has nothing compiled
    assert equal(setup.weights(config, checkpoints=tmp_path), model.state_dict())
    monkeypatch.setattr(loop._Training, "optimise", None)  # a finished training takes no further step
    assert equal(setup.weights(config, checkpoints=tmp_path), model.state_dict())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use on this machine")
def test_fine_tuning_compiles_nothing(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_compiled", None)
    batches = list(setup.store("train").in_order(32))[:2]
    assert fine_tune(setup.model(), batches, setup.objective(), FineTuneConfig(device="cuda"), seed=0)["total"] > 0
    with pytest.raises(TypeError):
        setup.weights(replace(CONFIG, device="cuda"))


def test_the_last_epochs_weights_are_kept_if_the_config_says_so(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 2.0] * 2)  # the first epoch is better
    monkeypatch.setattr(loop._Training, "_validate", lambda _: {"policy": next(losses), "reward": 0.0})
    weights = {}
    for keep in ("best", "last"):
        model = setup.model()
        config = replace(CONFIG, max_epochs=2, patience=2, keep=keep)
        assert fit(model, setup.store("train"), setup.store("validation"), setup.objective(), config).best_epoch == 0
        weights[keep] = model.state_dict()
    assert any(not weights["best"][name].equal(weights["last"][name]) for name in weights["best"])


def test_the_best_epoch_is_the_first_of_equals() -> None:
    epochs = [Epoch({}, {"policy": v, "reward": 0.5}) for v in (2.0, 1.0, 1.0, 3.0)]
    assert History(epochs).best_epoch == 1
    assert History().best_epoch == -1


def test_a_store_in_memory_reads_like_one_on_disk(setup: Setup) -> None:
    store = setup.store("train")
    in_memory = WindowsInMemory(store.windows.take(slice(0, 10)))
    assert Encoded(*in_memory.windows).batch().label_BL.equal(store.windows.take(slice(0, 10)).batch().label_BL)
