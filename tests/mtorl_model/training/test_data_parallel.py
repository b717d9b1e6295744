"""Trainings by two processes on the CPU, compared with the same training in this process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import parallel_fit
import pytest
import synthetic
import torch

from lakehouse.lake import Lake
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.champion import mlflow_store
from mtorl_model.training import data_parallel
from mtorl_model.training.checkpoint import load_checkpoint
from mtorl_model.training.loop import CHECKPOINT_FILE
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

ROOT = Path(__file__).parents[3]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "parallel_fit")
LAUNCH = (sys.executable, "-c", "import sys; from mtorl_model.training.data_parallel import launch; "
          "launch(2, 'parallel_fit', sys.argv[1:])")  # fmt: skip

Figures = list[dict[str, object]]


def start(*command: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join(
        str(ROOT / folder)
        for folder in (".", "tests/helpers", "tests/mtorl_model/helpers", "tests/mtorl_model/training")
    )
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def result(out: Path, rank: int = 0) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Every figure of every epoch, and the weights."""
    epochs = json.loads(Path(f"{out}{rank}.json").read_text())
    flat = [loss for epoch in epochs for part in ("train", "valid") for loss in epoch[part].values()]
    return flat, torch.load(f"{out}{rank}.pt", weights_only=True)


def assert_same_training(out: Path, expected_out: Path) -> None:
    """Losses and weights are equal up to the rounding of sums."""
    (curves, weights), (expected_curves, expected_weights) = result(out), result(expected_out)
    assert curves == pytest.approx(expected_curves, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected_weights[name], rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def lake(synthetic_lake: tuple[Lake, FeatureSpec]) -> Path:
    return synthetic_lake[0].root


@pytest.fixture(scope="module")
def one_process(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in one process, with two micro-batches per batch, dropout and preference pairs."""
    folder = tmp_path_factory.mktemp("one_process")
    parallel_fit.run(lake, folder, folder / "out", micro_batches=2)
    return folder / "out"


class TwoProcesses(NamedTuple):
    """The results and checkpoints of torchrun's two processes, and the text that they printed."""

    out: Path
    checkpoints: list[Path]
    screen: str


@pytest.fixture(scope="module")
def two_processes(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> TwoProcesses:
    """The training of `one_process`, then two equal trainings of a champion in another lake."""
    folder = tmp_path_factory.mktemp("two_processes")
    other_lake, _ = synthetic.write_lake(folder / "lake", users=40)
    mlflow_store.create_store(other_lake)  # here it is a copy
    scratch = str(folder / "scratch")
    done = start(*TORCHRUN, lake, folder, folder / "out", "--champion", other_lake.root, MTORL_SCRATCH=scratch)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTORL_SCRATCH", scratch)
        checkpoints = list(scratch_folder("checkpoints").iterdir())
    return TwoProcesses(folder / "out", checkpoints, done.stdout)


@pytest.mark.slow(30)
def test_two_processes_train_as_one_does(one_process: Path, two_processes: TwoProcesses) -> None:
    assert_same_training(two_processes.out, one_process)
    # Both processes end with the same bits.
    (curves, weights), (other_curves, other_weights) = result(two_processes.out, 0), result(two_processes.out, 1)
    assert curves == other_curves
    assert all(weight.equal(other_weights[name]) for name, weight in weights.items())


@pytest.mark.slow
def test_only_the_first_process_registers_the_champion(two_processes: TwoProcesses) -> None:
    texts = [text.split(": ", 1) for text in two_processes.screen.splitlines() if text.startswith("rank")]
    trained, repeated = (line for rank, line in texts if rank == "rank 0")
    assert "is the champion of kuairand: 2 x" in trained
    assert "the same training is registered already" in repeated
    assert [line for rank, line in texts if rank == "rank 1"] == ["[]", "[]"]
    assert two_processes.checkpoints == []


@pytest.mark.slow
def test_our_launcher_ends_without_an_error_when_all_processes_succeed(tmp_path: Path) -> None:
    (tmp_path / "say_rank.py").write_text("import os; print('rank', os.environ['RANK'], flush=True)")
    code = "import sys; from mtorl_model.training.data_parallel import launch; launch(2, 'say_rank', [])"
    done = start(sys.executable, "-c", code, PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["rank 0", "rank 1"]


@pytest.mark.slow(30)
def test_a_dead_process_ends_the_others_with_one_line_and_one_process_resumes(
    lake: Path, one_process: Path, tmp_path: Path
) -> None:
    done = start(*LAUNCH, lake, tmp_path, tmp_path / "out", "--kill-rank", 1)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: process 1 of 2 was killed by SIGKILL (out of memory?): start the training again, it resumes from its "
        "checkpoint"
    ]
    state = load_checkpoint(tmp_path / CHECKPOINT_FILE, "")
    assert state is not None
    assert len(state["history"]) == 1
    assert state["step"] > 0
    parallel_fit.run(lake, tmp_path, tmp_path / "out", micro_batches=2)
    assert_same_training(tmp_path / "out", one_process)


@pytest.mark.slow(30)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a process when its parent dies")
def test_a_killed_launcher_leaves_no_process_running(lake: Path, tmp_path: Path) -> None:
    done = start(*LAUNCH, lake, tmp_path, tmp_path / "out", "--kill-rank", 0, "--kill-launcher")
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / CHECKPOINT_FILE).exists()
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow(30)
def test_a_users_error_is_one_line_from_one_process(synthetic_lake: tuple[Lake, FeatureSpec]) -> None:
    lake, spec = synthetic_lake
    mlflow_store.create_store(lake)
    done = start(
        sys.executable, "-m", "mtorl_model.train", "--dataset", "kuairand", "--lake", lake.root, "--from",
        spec.first_day, "--to", spec.last_day, "--device", "cpu", "--processes", 2, "--micro-batches", 3,
    )  # fmt: skip
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error")] == [
        "error: 2 processes cannot share batches of 3 micro-batches evenly: give a multiple of 2 (--micro-batches)"
    ]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("parts", "rank", "expected"), [(4, 0, [0, 1]), (4, 1, [2, 3]), (2, 1, [1])])
def test_each_part_of_a_batch_belongs_to_one_process(
    monkeypatch: pytest.MonkeyPatch, parts: int, rank: int, expected: list[int]
) -> None:
    monkeypatch.setattr(data_parallel, "processes", lambda: 2)
    monkeypatch.setattr(data_parallel, "rank", lambda: rank)
    assert list(range(parts)[data_parallel.own_parts(parts)]) == expected
    with pytest.raises(UserError, match="2 processes cannot share batches of 3 micro-batches"):
        data_parallel.own_parts(3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has descriptors of processes")
def test_the_end_of_a_process_is_seen_whatever_an_error_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_parallel, "_END_DELAY_S", 0.05)
    with subprocess.Popen(["sleep", "60"]) as process:
        descriptor = os.pidfd_open(process.pid)
        assert not data_parallel._has_ended([descriptor])
        process.kill()
        monkeypatch.setattr(data_parallel, "_END_DELAY_S", 30)
        assert data_parallel._has_ended([descriptor])
        os.close(descriptor)
    monkeypatch.setattr(data_parallel, "_END_DELAY_S", 0)
    assert not data_parallel._has_ended([])
