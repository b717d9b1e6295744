"""The true value of the published policy where the channel has no, a medium and a strong effect that is personal.

python -m simulation.channel_effects [--users 3000] [--seeds 3] [--effects none medium strong]
    [--out effects.json]

In the generator's world of display ads, users live through a past in which channels are drawn at random with known
propensities. A model of one small network and trees learns from the log of these users; its basis is decided on other
users. Then it recommends a channel to users of a third group, and their true click probabilities give the
value of the recommendation. It is compared with the best constant channel of the same users and with the best channel
of each user.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from jobs.generator.behaviour import CHANNEL_EFFECTS, criteo_world
from jobs.generator.policy import LoggingPolicy
from lakehouse.storage.files import write_whole
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.evaluation.basis import Drawn, decide_basis
from mtorl_model.evaluation.off_policy import DrawnLabels
from mtorl_model.methods.common.label_rows import draw_labels
from mtorl_model.methods.common.recommendation import recommended_channel
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Run
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig
from schemas.basis import BASES
from schemas.errors import exit_with_one_line
from simulation.simulated_log import STEPS, fit_spec, simulate_log
from simulation.simulator import DATASET, Simulator

_VALIDATION, _TEST = 2_000_000, 3_000_000  # seeds of other users


def policy_value(effect: str, users: int, seed: int) -> dict[str, Any]:
    """Learn and recommend in one world; the values are mean true click probabilities of the third group."""
    world = criteo_world(CHANNEL_EFFECTS[effect])
    channels = len(world.channels)
    policy = LoggingPolicy(np.full(channels, 1 / channels))
    model_config = ModelConfig(hidden=32, category_dropout=0.1, steps=STEPS, trees=True)
    train_config = TrainConfig(batch_size=256, schedule="cosine", max_epochs=4, gradient_clip=1.0, seed=seed)
    config = MTORLConfig(model_config, LossConfig(mu=1.0), train_config)
    spec = fit_spec(users, seed, model_config.form.inputs)
    encoder = Encoder(spec, DATASET, model_config.form.inputs)
    train_log = simulate_log(encoder, users, seed, simulator=Simulator(users, seed, world, policy))
    valid_simulator = Simulator(users // 4, _VALIDATION + seed, world, policy)
    valid_log = simulate_log(encoder, users // 4, 0, train_log.maturity, valid_simulator)
    train, valid = train_log.store(with_propensities=True), valid_log.store(with_propensities=True)
    model = MTORL(config, spec, fit_initial_policy(train, spec)).fit(train, valid, Run())

    labels = draw_labels(valid, config.boosting.most_labels, 0, model.predict)
    assert labels.prediction is not None
    drawn = DrawnLabels(
        labels.action_N, labels.gain_NG[:, 0].astype(np.float64), labels.feature_NF,
        np.full(len(labels.action_N), -1), np.zeros(len(labels.action_N)), labels.propensity_N.astype(np.float64),
        labels.user_N,
    )  # fmt: skip
    decision = decide_basis(model, Drawn(drawn, labels.prediction))

    test = Simulator(users, _TEST + seed, world, policy)
    memory = JourneyMemory(encoder, DATASET, test.profile, users, STEPS)
    for moment, outcome in test.reset():
        memory.add_late_gains(moment.late)
        memory.observe(outcome, moment.context)
    windows, truth_UC = memory.windows(test.moment(0)), world.click_probability(test.state)
    starts = range(0, users, WINDOWS_AT_ONCE)
    parts = [model.predict_last(windows.take(slice(start, start + WINDOWS_AT_ONCE)).batch()) for start in starts]

    def value(basis: str) -> float:
        channel_U = np.concatenate([recommended_channel(part, basis, model.best_channel)[:, 0] for part in parts])
        return float(np.take_along_axis(truth_UC, channel_U[:, None], axis=1).mean())

    values = model.values
    assert values is not None
    return {
        "effect": effect, "seed": seed, "basis": decision.basis, "published": value(decision.basis),
        **{basis: value(basis) for basis in BASES},
        "best_constant": float(truth_UC.mean(axis=0).max()), "oracle": float(truth_UC.max(axis=1).mean()),
        "shrinkage": values.gains[0].shrinkage_K.tolist(), "reason": decision.reason,
    }  # fmt: skip


def as_row(result: dict[str, Any]) -> str:
    """A line of the table: the published value relative to the best constant and to the oracle."""
    gain, largest_gain = result["published"] - result["best_constant"], result["oracle"] - result["best_constant"]
    return (
        f"{result['effect']:<7} seed {result['seed']}  {result['basis']:<9} published {result['published']:.4f}  "
        f"best constant {result['best_constant']:.4f} ({gain / result['best_constant']:+.2%})  "
        f"oracle {result['oracle']:.4f} ({gain / largest_gain if largest_gain > 1e-12 else 0.0:.0%} of the way)  "
        f"lambda {', '.join(f'{x:.2f}' for x in result['shrinkage'])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=3000, help="to learn from, and as many to recommend to")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--effects", nargs="+", choices=list(CHANNEL_EFFECTS), default=list(CHANNEL_EFFECTS),
                        metavar="EFFECT", help=f"of {', '.join(CHANNEL_EFFECTS)}; default: all")  # fmt: skip
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    args = parser.parse_args()
    results = []
    for effect in args.effects:
        for seed in range(args.seeds):
            results.append(policy_value(effect, args.users, seed))
            print(as_row(results[-1]), flush=True)
    if args.out:
        write_whole(args.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    exit_with_one_line(main)
