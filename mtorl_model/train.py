"""Train methods on the tables of a range of days and make each the dataset's champion of its method.

python -m mtorl_model.train --dataset D --lake DIR --from DAY --to DAY [--method mtorl,rmtl] [--preset small]
    [--max-epochs N] [--spec-day DAY] [--labels-known-by DAY] [--reward-form binary] [--mu M] [--dpo-weight L]
    [--seed 0] [--members K] [--device auto] [--processes N] [--micro-batches K] [--set NAME=VALUE]

A setting that one of the methods does not have is an error. A training that was killed resumes from its last checkpoint
when it is started again with the same arguments.

Data-parallel: --processes N on one machine, one process per GPU; on several machines torchrun starts the processes:
torchrun --nproc-per-node N -m mtorl_model.train ... All of them read the lake; only the first one writes to it.
The weights depend on the batch and its micro-batches, not on the number of processes.
"""

import argparse
import hashlib
import json
import shutil
import sys
from typing import Any

from lakehouse.arguments import add_lake
from lakehouse.code_version import code_version
from lakehouse.feature_specs import published_spec
from lakehouse.lake import Lake
from lakehouse.models.versions import UNDECIDED, Version
from lakehouse.storage.scratch import scratch_folder, work_folder
from mtorl_model.arguments import add_methods, for_each, methods_of
from mtorl_model.champion.export import export_for_daily_run
from mtorl_model.champion.mlflow_store import MODEL
from mtorl_model.champion.pyfunc import describe_for_mlflow
from mtorl_model.champion.registry import Registry
from mtorl_model.champion.training_inputs import TrainingInputs, open_training
from mtorl_model.data.delayed_feedback import FeedbackConfig, cutoff_at_end_of
from mtorl_model.data.device import choose_device
from mtorl_model.evaluation.basis import basis_line, basis_on_validation_users
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import Method, MethodConfig, Run, choose_preset
from mtorl_model.methods.model_folder import save_model
from mtorl_model.training import data_parallel
from schemas.basis import CONSTANT, BasisDecision
from schemas.dataset import Dataset, get_dataset
from schemas.errors import Busy, UserError, exit_with_one_line
from schemas.tables import CHANNEL_POLICIES, SEQUENCES

# The settings of methods that have a flag.
_SETTINGS = ("reward_form", "max_epochs", "mu", "dpo_weight", "seed", "members", "device", "micro_batches")


def train_champion(
    lake: Lake,
    dataset: Dataset,
    first_day: str,
    last_day: str,
    method: type[Method],
    config: MethodConfig,
    *,
    spec_day: str | None = None,
    labels_known_by: str | None = None,
) -> list[str]:
    """Train on the days first to last and register the method's champion; returns lines for the terminal.

    spec_day: the day whose published feature spec the model reads; None: the newest. labels_known_by: use the labels as
    known at the end of this day, and correct late gains as in fine-tuning; None: the full outcome.
    Within data_parallel.joined each process calls this with the same arguments; only the first one returns lines.
    Raises UserError without a feature spec or without windows to train or validate on; Busy if the processes have read
    different sequences.
    """
    lake.require_writable()  # fail now, not after hours of training
    spec = published_spec(lake, dataset.name, spec_day)
    inputs = open_training(method.reads, lake, dataset, config, spec, first_day, last_day, labels_known_by)
    trained_on = inputs.trained_on
    params = _identity(method, config, spec.version, inputs)
    identity = json.dumps(params, sort_keys=True)
    if not data_parallel.all_same(identity):
        raise Busy(f"another run has just published days of {dataset.name}: run again")
    checkpoints = scratch_folder("checkpoints") / hashlib.sha256(identity.encode()).hexdigest()[:16]
    registry = Registry(lake, dataset, method.name)
    # If the version is registered already, for example by a run that was killed later, only the last steps remain.
    if version := data_parallel.from_first(lambda: registry.find_version(identity)):
        if not data_parallel.is_first():
            return []
        basis = version.basis
        if basis == UNDECIDED:  # the earlier run was killed before the decision
            basis = _basis(lake, dataset, registry.load(version), first_day, last_day, labels_known_by)
        line = _make_registered_champion(registry, version, basis, spec.version, trained_on)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return [line]

    run = Run(checkpoints, identity)
    model = method(config, spec, inputs.initial_policy)
    model.encoding = inputs.encoding
    model.fit(inputs.train, inputs.valid, run)
    if not data_parallel.is_first():
        return []
    basis = _basis(lake, dataset, model, first_day, last_day, labels_known_by)
    with work_folder() as staging:
        folder = staging / MODEL
        save_model(folder, model)
        describe_for_mlflow(folder, model, dataset)
        params |= {"first_day": first_day, "last_day": last_day}
        version = registry.register(folder, params, run.curves, identity=identity, day=last_day)
    registry.write_lineage(version, spec.version, trained_on)
    registry.make_champion(version, basis)
    export_for_daily_run(registry)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return [
        f"{version.name} is the champion of {dataset.name}: {model.summary()}, days {first_day} to {last_day}",
        f"trained on {len(inputs.train):,} {method.reads}, validated on {len(inputs.valid):,} of other users",
        *run.lines,
        *([basis_line(basis)] if CHANNEL_POLICIES in model.publishes else []),
    ]


def _make_registered_champion(
    registry: Registry, version: Version, basis: BasisDecision, spec_version: str, trained_on: dict[str, str]
) -> str:
    """Make a version that is registered already the champion; returns a line for the terminal."""
    previous = registry.find_champion()
    registry.write_lineage(version, spec_version, trained_on)
    registry.make_champion(version, basis)
    export_for_daily_run(registry)
    line = f"{version.name} is the champion of {registry.dataset.name}: the same training is registered already"
    if previous and previous.number != version.number:
        line += f"; it replaces {previous.name}, trained through {previous.day} (to undo this: make rollback)"
    return line


def _basis(
    lake: Lake, dataset: Dataset, model: Method, first_day: str, last_day: str, labels_known_by: str | None
) -> BasisDecision:
    """The basis of the recommended channels, decided on the validation users of the days of training."""
    if CHANNEL_POLICIES not in model.publishes:
        return BasisDecision(CONSTANT, f"{model.name} recommends no channel")
    days = [d for d in lake.days(SEQUENCES, dataset) if first_day <= d <= last_day]
    cutoff = cutoff_at_end_of(labels_known_by, lake, dataset, days, FeedbackConfig()) if labels_known_by else None
    return basis_on_validation_users(lake, dataset, model, days, cutoff)


def _identity(method: type[Method], config: MethodConfig, spec_version: str, inputs: TrainingInputs) -> dict[str, Any]:
    """Everything that the weights depend on."""
    return {
        "method": method.name,
        **config.settings(),
        # A GPU draws other random numbers than a CPU and rounds differently.
        "device": choose_device(config.settings().get("device", "cpu")).type,
        "spec": spec_version,
        "train": inputs.keys[0],
        "validation": inputs.keys[1],
        "code": code_version("mtorl_model"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    add_lake(parser)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--spec-day", metavar="DAY", help="the day whose feature spec to use; default: the newest")
    add_methods(parser)
    parser.add_argument("--preset", default="small", help="settings of the method by name; default %(default)s")
    parser.add_argument("--reward-form", help="binary, continuous, fused or onehot; default: from the preset")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="maximum number; default: from the preset")
    parser.add_argument("--mu", type=float, help="weight of the reward loss; default: from the preset")
    parser.add_argument("--dpo-weight", type=float, help="lambda, weight of the DPO loss; default: from the preset")
    parser.add_argument("--seed", type=int, help="default: from the preset, 0")
    parser.add_argument(
        "--members", type=int, metavar="K", help="number of models to average; default: from the preset"
    )
    parser.add_argument(
        "--labels-known-by", metavar="DAY", help="labels as they were known at the end of this day, to simulate history"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: from the preset, auto")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="number of processes on this machine")
    parser.add_argument(
        "--micro-batches", type=int, metavar="K",
        help="parts of a batch, which need less memory; default: from the preset, at least one per process",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
        help="any other setting of the method, value as JSON; may be repeated",
    )  # fmt: skip
    args = parser.parse_args()
    if args.processes < 1:
        raise UserError(f"--processes {args.processes}: train with at least one process")
    if args.processes > 1 and not data_parallel.is_launched():
        data_parallel.launch(args.processes, "mtorl_model.train", sys.argv[1:])
    else:
        for name in methods_of(args):
            METHODS[name]  # an unknown name is an error before the first training
        with data_parallel.joined(choose_device(args.device or "auto")):
            for_each(methods_of(args), lambda name: _train(args, name))


def _assignment(text: str) -> tuple[str, Any]:
    """The name and the value of NAME=VALUE. Raises UserError if the value is not JSON."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        raise UserError(f"--set {text}: write NAME=VALUE with a value in JSON, for example hidden=64") from None


def _train(args: argparse.Namespace, name: str) -> None:
    dataset, method = get_dataset(args.dataset), METHODS[name]
    for count in ("max_epochs", "members"):
        if (value := getattr(args, count)) is not None and value < 1:
            raise UserError(f"--{count.replace('_', '-')} {value}: at least 1")
    config = choose_preset(method.presets(dataset.name), args.preset)
    chosen = {key: getattr(args, key) for key in _SETTINGS if getattr(args, key) is not None}
    chosen |= dict(map(_assignment, args.assignments))
    processes = data_parallel.processes()
    if processes > 1 and "micro_batches" not in config.settings():
        raise UserError(f"--processes {processes}: the method {method.name} trains in one process")
    if processes > 1 and "micro_batches" not in chosen:
        chosen["micro_batches"] = max(config.settings()["micro_batches"], processes)
    chosen = _own_settings(chosen, config, args)
    lines = train_champion(
        Lake(args.lake), dataset, args.first_day, args.last_day, method, config.changed(chosen),
        spec_day=args.spec_day, labels_known_by=args.labels_known_by,
    )  # fmt: skip
    if lines:
        print("\n".join(lines))


def _own_settings(chosen: dict[str, Any], config: MethodConfig, args: argparse.Namespace) -> dict[str, Any]:
    """The chosen settings that this method has. Raises UserError for a setting that none of the named methods has."""
    presets = {name: METHODS[name].presets(args.dataset) for name in methods_of(args)}
    known = {key for by_name in presets.values() for key in choose_preset(by_name, args.preset).settings()}
    if missing := sorted(chosen.keys() - known):
        flags = ", ".join(f"--{setting.replace('_', '-')}" for setting in missing)
        raise UserError(f"{flags}: the method {', '.join(presets)} has no such setting")
    return {key: value for key, value in chosen.items() if key in config.settings()}


if __name__ == "__main__":
    exit_with_one_line(main)
