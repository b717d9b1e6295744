"""Train MTORL on the sequences of a range of days and make it the dataset's champion.

python -m mtorl_model.train --dataset D --lake DIR --from DAY --to DAY [--preset small] [--max-epochs N]
    [--spec-day DAY] [--labels-known-by DAY] [--reward-form binary] [--mu M] [--dpo-weight L] [--seed 0]
    [--members K] [--device auto] [--processes N] [--micro-batches K]

Killed and started again with the same arguments, it goes on from its last checkpoint.

Data-parallel: --processes N on one machine, one process a GPU; over machines torchrun starts the processes:
torchrun --nproc-per-node N -m mtorl_model.train ... All of them read the lake, the first alone writes to it. The
weights follow from the batch and its micro-batches, not from how many processes compute them.
"""

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lakehouse.freshness import fingerprints
from lakehouse.paths import Lake
from lakehouse.publishing import code_version, require_lake, staging_folder
from mtorl_model.champion.export import hand_out
from mtorl_model.champion.registry import (
    find_champion,
    find_version,
    make_champion,
    register,
    registry_lock,
    write_lineage,
)
from mtorl_model.data.delayed_feedback import FeedbackConfig, known_by_end_of
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.window_store import WindowStore, open_windows
from mtorl_model.methods.mtorl.artifact import Artifact, save_artifact
from mtorl_model.methods.mtorl.config import PRESETS, REWARD_FORMS, LossConfig, ModelConfig, preset
from mtorl_model.methods.mtorl.model import MTORL
from mtorl_model.training import data_parallel
from mtorl_model.training.config import TrainConfig
from mtorl_model.training.loop import History, choose_device, fit
from schemas.dataset import Dataset, get_dataset
from schemas.errors import Busy, UserError, exit_with_one_line
from schemas.splits import TRAIN, VALIDATION
from schemas.tables import SEQUENCES

Configs = tuple[ModelConfig, LossConfig, TrainConfig]


def train_champion(
    lake: Lake,
    dataset: Dataset,
    first_day: str,
    last_day: str,
    configs: Configs,
    *,
    spec_day: str | None = None,
    labels_known_by: str | None = None,
) -> list[str]:
    """Train on the days first to last, register the champion; a few lines for people about it.

    spec_day: the day whose published feature spec the windows were cut with, the newest where left out.
    labels_known_by: a day after whose end nothing has happened yet for the labels, and late gains are corrected for
    as in fine-tuning; left out, labels are what the lake knows today.
    Within data_parallel.joined each process calls this with the same arguments, and all but the first say nothing.
    Raises UserError where there is no feature spec, or no windows to train or validate on; Busy where the processes
    have read different sequences.
    """
    require_lake(lake)  # hours before anything is registered
    model_config, loss_config, train_config = configs
    spec = published_spec(lake, dataset.name, spec_day)
    encoder = Encoder(spec, dataset, model_config.reward_form)
    known_by = None
    days = [d for d in lake.days(SEQUENCES, dataset) if first_day <= d <= last_day]
    trained_on = lake.fingerprints(SEQUENCES, dataset, days)
    if labels_known_by:
        known_by = known_by_end_of(labels_known_by, lake, dataset, days, FeedbackConfig())
    train, valid = data_parallel.first_alone(
        lambda: [open_windows(lake, encoder, first_day, last_day, split, known_by) for split in (TRAIN, VALIDATION)]
    )
    identity = _identity(configs, spec.version, train, valid)
    if not data_parallel.all_same(identity):
        raise Busy(f"the sequences of {dataset.name} were published anew just now: run again")
    checkpoints = lake.table("checkpoints", dataset) / hashlib.sha256(identity.encode()).hexdigest()[:16]
    # Killed after it registered: there is nothing left to do but to clean up.
    if found := data_parallel.from_first(lambda: find_version(lake, dataset, identity)):
        if not data_parallel.is_first():
            return []
        with registry_lock(lake, dataset):
            before = find_champion(lake, dataset)
            write_lineage(lake, dataset, found, spec.version, trained_on)
            make_champion(lake, dataset, found)
            hand_out(lake, dataset)
        shutil.rmtree(checkpoints, ignore_errors=True)
        line = f"{found.name} is the champion of {dataset.name}: it was trained on just this before"
        if before and before.number != found.number:
            line += f"; in the place of {before.name}, trained through {before.day} (make rollback brings that back)"
        return [line]

    models, histories = [], []
    for seed in range(train_config.seed, train_config.seed + train_config.members):
        models.append(new_model(model_config, encoder, seed))
        # A member that is done keeps its checkpoint until all are: a kill repeats none of them.
        histories.append(
            fit(models[-1], train, valid, loss_config, replace(train_config, seed=seed),
                checkpoints=checkpoints / str(seed), identity=identity)
        )  # fmt: skip
    if not data_parallel.is_first():
        return []
    with staging_folder(lake) as folder:
        save_artifact(folder, Artifact(tuple(models), spec, fit_initial_policy(train, spec)))
        params = {**json.loads(identity), "first_day": first_day, "last_day": last_day}
        with registry_lock(lake, dataset):
            version = register(
                lake, dataset, folder, params, curves_of(histories, dataset), identity=identity, day=last_day
            )
            write_lineage(lake, dataset, version, spec.version, trained_on)
            make_champion(lake, dataset, version)
            hand_out(lake, dataset)
    shutil.rmtree(checkpoints)
    weights = sum(p.numel() for p in models[0].parameters())
    return [
        f"{version.name} is the champion of {dataset.name}: {len(models)} x {weights:,} weights, "
        f"days {first_day} to {last_day}",
        f"trained on {len(train):,} windows, validated on {len(valid):,} of other users",
        *(
            f"best of {len(history.epochs)} epochs is {history.best_epoch + 1}: validation loss of the policy "
            f"{history.best.valid_policy:.4f}, of the reward {history.best.valid_reward:.4f}"
            for history in histories
        ),
    ]


def curves_of(histories: Sequence[History], dataset: Dataset) -> list[dict[str, float]]:
    """All figures of each epoch, those of the second member and on with its number behind their names."""
    curves: list[dict[str, float]] = [{} for _ in range(max(len(history.epochs) for history in histories))]
    for member, history in enumerate(histories, start=1):
        of_member = f"_{member}" if member > 1 else ""
        for curve, epoch in zip(curves, history.epochs, strict=False):  # members stop when they please
            curve |= {name + of_member: value for name, value in epoch.curves(dataset.gain_names).items()}
    return curves


def new_model(config: ModelConfig, encoder: Encoder, seed: int) -> MTORL:
    """A model with random weights that follow from the seed."""
    torch.manual_seed(seed)
    return MTORL(config, encoder.sizes)


def _identity(configs: Configs, spec_version: str, train: WindowStore, valid: WindowStore) -> str:
    """All that the weights depend on, as JSON."""
    merged: dict[str, object] = {}
    for config in configs:
        merged |= json.loads(config.to_json())
    # A GPU draws other random numbers than a CPU, and rounds otherwise.
    merged["device"] = choose_device(configs[2].device).type
    merged |= {"spec": spec_version, "train": train.key, "validation": valid.key, "code": code_version("mtorl_model")}
    return json.dumps(merged, sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--spec-day", metavar="DAY", help="the day whose feature spec to use; default: the newest")
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--reward-form", default="binary", choices=REWARD_FORMS)
    parser.add_argument("--max-epochs", type=int, metavar="N", help="at most; the preset's where left out")
    parser.add_argument("--mu", type=float, help="weight of the reward loss; the preset's where left out")
    parser.add_argument("--dpo-weight", type=float, help="lambda, weight of the DPO loss; the preset's where left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", type=int, metavar="K", help="models to average; the preset's where left out")
    parser.add_argument(
        "--labels-known-by", metavar="DAY", help="to replay history: labels as they were known at the end of this day"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="train together on this machine")
    parser.add_argument(
        "--micro-batches", type=int, metavar="K",
        help="parts that a batch is computed in, to need less memory; default: the preset's, or one a process",
    )  # fmt: skip
    args = parser.parse_args()
    if args.processes < 1:
        raise UserError(f"--processes {args.processes}: train with at least one process")
    if args.processes > 1 and not data_parallel.is_launched():
        data_parallel.launch(args.processes, "mtorl_model.train", sys.argv[1:])
    else:
        with data_parallel.joined(choose_device(args.device)):
            _train(args)


def _train(args: argparse.Namespace) -> None:
    dataset = get_dataset(args.dataset)
    model, loss, train = preset(args.preset, dataset.name)
    epochs = train.max_epochs if args.max_epochs is None else args.max_epochs
    if epochs < 1:
        raise UserError(f"--max-epochs {epochs}: train for at least one epoch")
    members = train.members if args.members is None else args.members
    if members < 1:
        raise UserError(f"--members {members}: train at least one model")
    micro_batches = args.micro_batches
    if micro_batches is None:
        micro_batches = max(train.micro_batches, data_parallel.processes())
    configs = (
        replace(model, reward_form=args.reward_form),
        replace(
            loss,
            mu=loss.mu if args.mu is None else args.mu,
            dpo_weight=loss.dpo_weight if args.dpo_weight is None else args.dpo_weight,
        ),
        replace(
            train,
            max_epochs=epochs,
            seed=args.seed,
            members=members,
            device=args.device,
            micro_batches=micro_batches,
        ),
    )
    lake = Lake(args.lake)
    lines = train_champion(
        lake, dataset, args.first_day, args.last_day, configs,
        spec_day=args.spec_day, labels_known_by=args.labels_known_by,
    )  # fmt: skip
    if lines:
        print("\n".join(lines))


if __name__ == "__main__":
    exit_with_one_line(main)
