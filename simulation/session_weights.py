"""RMTL's weights in the planted world, where they must beat the same weights made constant, and in random order.

python -m simulation.session_weights [--sessions 500] [--seeds 3] [--out weights.json]

The actor is a logistic regression with a single slope, so it can fit long sessions or short ones
(jobs/generator/planted_sessions.py). It is trained without weights, then critics of it are, and it is trained again
from there with each weighting. Figures are cross-entropies of other users' exposures, weighted by importance; the
differences are paired over users and seeds, with 95 % intervals over users.

Shapes: N exposures, T tasks (one).
"""

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jobs.generator.planted_sessions import LENGTH, PlantedSessions, draw_planted_sessions
from lakehouse.arguments import require_at_least
from lakehouse.storage.files import write_whole
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate, quotient
from mtorl_model.evaluation.metrics import Figures
from mtorl_model.methods.common.multitask import CandidateSizes, MultiTaskNetwork, NetworkConfig
from mtorl_model.methods.rmtl.config import ActorTrainConfig, CriticConfig
from mtorl_model.methods.rmtl.critics import SMALLEST
from mtorl_model.methods.rmtl.stages import loss_weights, predict, train_actor, train_critics
from schemas.errors import exit_with_one_line

RMTL, CONTROLS = "critics", ("constant", "permuted")
WEIGHTINGS = (RMTL, *CONTROLS, "return")
SIZES = CandidateSizes((LENGTH + 1,), 1, 1)
CRITIC = CriticConfig(
    critic_bottom=(16,), critic_tower=(8,), critic_dropout=0.0, action=4, critic_learning_rate=3e-3, critic_epochs=6
)
TRAIN = ActorTrainConfig(batch_size=256, learning_rate=0.03, max_epochs=3, patience=3, device="cpu")
_TEST_SEED = 1_000_000  # of other users


class OneSlope(MultiTaskNetwork):
    """A logistic regression: a number for each place, and one slope for x, whatever the place is."""

    def __init__(self) -> None:
        super().__init__(NetworkConfig(embedding=1, bottom=(1,), batch_norm=False), SIZES)
        self.slope = torch.nn.Linear(self.inputs.size, 1)

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        p_NT: Tensor = self.slope(self.inputs(categorical_NK, numeric_NF)).sigmoid()
        return p_NT


def store_of(sessions: PlantedSessions) -> CandidateStore:
    """The exposures as candidates, whose one category is the place."""
    rows = len(sessions.session_N)
    return CandidateStore(
        user_N=sessions.session_N, session_N=sessions.session_N,
        position_N=np.maximum(sessions.place_N - 1, 0).astype(np.int32), exposure_id_N=np.arange(rows),
        exposed_at_ms_N=1000 * np.arange(rows), categorical_NK=sessions.place_N[:, None].astype(np.int32),
        numeric_NF=sessions.x_N[:, None].astype(np.float32), missing_NF=np.zeros((rows, 1), dtype=bool),
        labels_NT=sessions.label_N[:, None].astype(np.float32), maturity_NT=np.ones((rows, 1), np.float32),
        objectives_NI=np.zeros((rows, 0), np.float32),
        objective_maturity_NI=np.ones((rows, 0), np.float32),
        split_N=np.zeros(rows, np.int8), objective_names=(),
        categorical_names=("place",), cardinalities=SIZES.vocabulary, numeric_names=("x",), task_names=("click",),
    )  # fmt: skip


def losses_by_weighting(train_seed: int, sessions: int, test: CandidateStore) -> dict[str, npt.NDArray[np.float64]]:
    """[N] for each weighting: the cross-entropies of the test exposures after training with it."""
    train = store_of(draw_planted_sessions(sessions, 2 * train_seed))
    valid = store_of(draw_planted_sessions(max(sessions // 5, 1), 2 * train_seed + 1))
    torch.manual_seed(train_seed)
    start = OneSlope()
    train_actor(start, train, valid, TRAIN, seed=train_seed)
    critics, _ = train_critics(
        start, train, CRITIC, batch_size=TRAIN.batch_size, seed=train_seed, device=TRAIN.device
    )  # fmt: skip
    losses = {}
    for weighting in WEIGHTINGS:
        actor, config = copy.deepcopy(start), CriticConfig(weighting=weighting)
        weight_of = loss_weights(critics, config, seed=train_seed)
        train_actor(actor, train, valid, TRAIN, seed=train_seed, weight_of=weight_of)
        p_N = np.clip(predict(actor, test)[:, 0], SMALLEST, 1 - SMALLEST)
        losses[weighting] = -np.log(np.where(test.labels_NT[:, 0] > 0, p_N, 1 - p_N))
    return losses


def measure(sessions: int, seeds: int) -> Figures:
    """The importance-weighted cross-entropy by weighting, the mean over the seeds, with its replicates."""
    planted = draw_planted_sessions(sessions, _TEST_SEED)
    test = store_of(planted)
    users, importance_N = UserBootstrap(test.user_N), planted.importance(CRITIC.gamma)
    by_seed = [losses_by_weighting(seed, sessions, test) for seed in range(seeds)]
    figures: Figures = {}
    for weighting in WEIGHTINGS:
        loss_N = np.mean([losses[weighting] for losses in by_seed], axis=0)
        sums_R2 = users.sums(np.stack([importance_N * loss_N, importance_N], axis=1))
        figures[weighting] = quotient(sums_R2[:, 0], sums_R2[:, 1])
    return figures


def summarise(figures: Figures) -> dict[str, Any]:
    """The estimates, RMTL's differences to its controls, and whether both intervals are below 0."""
    differences = {control: estimate(figures[RMTL] - figures[control]) for control in CONTROLS}
    return {
        "losses": {weighting: estimate(figure) for weighting, figure in figures.items()},
        "minus": differences,
        "wins": all(d["high"] is not None and d["high"] < 0 for d in differences.values()),
    }


def as_text(result: Mapping[str, Any]) -> str:
    """A line for each weighting and control, and the verdict."""

    def line(name: str, estimated: Mapping[str, float | None]) -> str:
        value, low, high = (float("nan") if number is None else number for number in estimated.values())
        return f"{name:24}{value:+.4f} [{low:+.4f}, {high:+.4f}]"

    lines = [line(weighting, estimated) for weighting, estimated in result["losses"].items()]
    lines += [line(f"{RMTL} minus {control}", estimated) for control, estimated in result["minus"].items()]
    verdict = "beats both controls" if result["wins"] else "DOES NOT beat both controls: the implementation is wrong"
    return "\n".join([*lines, f"RMTL {verdict}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=500, help="long ones to train on, and as many to measure on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    args = parser.parse_args()
    require_at_least(args, sessions=20, seeds=1)
    result = summarise(measure(args.sessions, args.seeds))
    print(as_text(result))
    if args.out:
        write_whole(args.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    exit_with_one_line(main)
