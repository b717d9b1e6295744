"""Table 1 of the RMTL paper on a dataset's log: multi-task networks, RMTL on three of them, and RMTL's controls.

python -m mtorl_model.studies.multitask.study --dataset D --lake LAKE [--seeds 1] [--max-epochs N] [--preset small]
    [--protocol unseen-users|published-time-split] [--networks mmoe ...] [--table-only]

The published commands cannot give the published table: they train critics of one network and then polish another one.
Here each network is trained without weights (stage 1a). For RMTL, critics of it are trained, and it is trained again
from there with each weighting. RMTL's weights help only if it is better than `constant` and `permuted`, whose weights
have the same size but no information. Differences are paired over users and seeds.

Writes `LAKE/D/studies/rmtl_<protocol>.json`. A killed study continues after its last finished training, and a
run with more seeds uses the trainings of the one before.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.parts import PROTOCOLS, UNSEEN_USERS, Parts
from mtorl_model.data.candidates.reading import read_candidate_rows, store_of
from mtorl_model.data.device import choose_device
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.metrics import Figures, reward_metrics, session_logloss
from mtorl_model.methods.common.label_trees import CANDIDATE_TREES, classifier, without_empty_columns
from mtorl_model.methods.common.multitask import CandidateSizes
from mtorl_model.methods.method import choose_preset
from mtorl_model.methods.rmtl.config import PRESETS, CriticConfig, RMTLConfig
from mtorl_model.methods.rmtl.member import NO_CHECKPOINTS, Checkpoints, Member, Training
from mtorl_model.methods.rmtl.stages import predict
from mtorl_model.methods.rmtl.weight_choice import RMTL, Interval, beats_all
from mtorl_model.methods.rmtl.weights import WEIGHTS_TO_BEAT
from mtorl_model.studies.multitask.tables import PAPER, as_markdown
from schemas.dataset import Dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import EXPOSURES, ITEM_HISTORY, STEPS

Floats = npt.NDArray[np.float64]

NETWORKS = ("single", "shared", "esmm", "mmoe", "ple", "aitm")
WEIGHTED_NETWORKS = ("esmm", "mmoe", "ple")
FURTHER_CONTROLS = ("retrained", "return")
ABLATION = ("label", "value")  # of the paper; its third variant is `constant`
LAMBDAS = (0.1, 0.3, 1.0, 2.0)  # in addition to 0.7, the value of the paper
FULL_NETWORK = "mmoe"
BOOSTING = "boosting"
FIGURES = ("auc", "logloss", "s_logloss", "ece")
_LARGEST_FIT = 400_000  # rows that the trees are fitted on, at most


class Trained(NamedTuple):
    """A variant's predictions for the test rows, (N, T)."""

    variant: str
    p_NT: Floats


def variants(
    parts: Parts,
    config: RMTLConfig,
    seed: int,
    networks: Sequence[str],
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    *,
    full_network: str | None = FULL_NETWORK,
) -> Iterator[Trained]:
    """Train every variant with a seed; the variants of one network share stage 1a and the critics.

    full_network: the one with the curve; see weightings. checkpoints: of this study. A finished training has stored
    its predictions and is not repeated.
    """
    for name in networks:
        settings = replace(config, model=replace(config.model, network=name))
        stages = checkpoints.within(f"{name}_{seed}")
        training = Training(settings, _sizes(parts.train), parts.train, parts.valid, seed, stages)
        member = training.pretrain()
        yield Trained(name, _predicted(stages, name, partial(predict, member.network, parts.test)))
        if name in WEIGHTED_NETWORKS:
            training.add_critics(member)
            for label, critic in weightings(name, settings.critic, full=name == full_network):
                run = partial(_retrained_prediction, training, member, critic, parts.test)
                yield Trained(label, _predicted(stages, label, run))


def _retrained_prediction(training: Training, member: Member, critic: CriticConfig, test: CandidateStore) -> Floats:
    network = copy.deepcopy(member.network)
    network.load_state_dict(training.retrain(member, critic)["network"])
    return predict(network, test)


def _predicted(stages: Checkpoints, variant: str, run: Callable[[], Floats]) -> Floats:
    state = stages.stage(f"predicted {variant}".replace(" ", "_"), lambda: {"p_NT": torch.from_numpy(run())})
    p_NT: Floats = state["p_NT"].numpy()
    return p_NT


def _sizes(store: CandidateStore) -> CandidateSizes:
    return CandidateSizes(store.cardinalities, len(store.numeric_names), len(store.task_names))


def weightings(network: str, critic: CriticConfig, *, full: bool) -> Iterator[tuple[str, CriticConfig]]:
    """Name of the variant, weighting and lambda: RMTL and the controls that it must beat.

    full: with the other controls, the ablation and the curve over lambda.
    """
    further, lambdas = ((*FURTHER_CONTROLS, *ABLATION), LAMBDAS) if full else ((), ())
    for weighting in (RMTL, *WEIGHTS_TO_BEAT, *further):
        yield f"{network} {weighting}", replace(critic, weighting=weighting)
    for value_weight in lambdas:
        chosen = replace(critic, weighting=RMTL, value_weight=value_weight)
        yield f"{network} {RMTL} lambda {value_weight:g}", chosen


def boosting(parts: Parts) -> Floats:
    """(N, T): gradient boosting on the same inputs."""
    config = CANDIDATE_TREES
    rows = np.sort(np.random.default_rng(0).permutation(len(parts.train))[:_LARGEST_FIT])
    train_NX, test_NX = without_empty_columns(parts.train.take(rows).features()), parts.test.features()
    predicted = []
    for task in range(len(parts.train.task_names)):
        trees = classifier(config, config.gain_iterations, config.gain_rate)
        trees.fit(train_NX, parts.train.labels_NT[rows, task])
        predicted.append(trees.predict_proba(test_NX)[:, 1])
    return np.stack(predicted, axis=1)


def figures_of(p_NT: Floats, test: CandidateStore, users: UserBootstrap) -> Figures:
    """FIGURES of each task, by "task figure"."""
    figures: Figures = {}
    for task, name in enumerate(test.task_names):
        label_N, p_N = test.labels_NT[:, task].astype(np.float64), p_NT[:, task]
        measured = reward_metrics(label_N, p_N, users).figures
        measured["s_logloss"] = session_logloss(label_N, p_N, test.session_N, users)
        figures |= {f"{name} {figure}": measured[figure] for figure in FIGURES}
    return figures


def compared_with(variant: str, full_network: str | None = FULL_NETWORK) -> tuple[str, ...]:
    """The variants to compare with: RMTL with its controls and its network, a network with boosting."""
    network, _, weighting = variant.partition(" ")
    if weighting == RMTL:
        controls = (*WEIGHTS_TO_BEAT, *(FURTHER_CONTROLS if network == full_network else ()))
        return (network, *(f"{network} {control}" for control in controls))
    return () if weighting or variant == BOOSTING else (BOOSTING,)


def run_study(
    parts: Parts,
    config: RMTLConfig,
    seeds: int,
    networks: Sequence[str] = NETWORKS,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    *,
    full_network: str | None = FULL_NETWORK,
) -> dict[str, Any]:
    """Figures of every variant, and differences to the variants that it is compared with; means over the seeds."""
    users = UserBootstrap(parts.test.user_N)
    baseline_NT = _predicted(checkpoints, BOOSTING, lambda: boosting(parts))
    figures = {BOOSTING: figures_of(baseline_NT, parts.test, users)}
    for seed in range(seeds):
        for variant, p_NT in variants(parts, config, seed, networks, checkpoints, full_network=full_network):
            measured = figures_of(p_NT, parts.test, users)
            earlier = figures.get(variant, dict.fromkeys(measured, np.zeros(())))
            figures[variant] = {name: earlier[name] + measured[name] / seeds for name in measured}
            print(f"seed {seed}: {variant}", flush=True)
    rows = [
        {"variant": variant, "figure": name, **estimate(figure)}
        for variant, by_name in figures.items()
        for name, figure in by_name.items()
    ]
    differences = [
        {"variant": variant, "against": reference, "figure": name, **estimate(figure - figures[reference][name])}
        for variant, by_name in figures.items()
        for reference in compared_with(variant, full_network)
        for name, figure in by_name.items()
    ]
    return {
        "users": users.users, "labels": len(parts.test), "users_in_parts": parts.note, "seeds": seeds,
        "interval": f"95 %, {users.replicates} bootstrap draws of users; differences are paired",
        "tasks": list(parts.test.task_names), "rows": rows, "differences": differences,
        "rmtl_helps": {f"{n}": helps(differences, f"{n} critics") for n in networks if n in WEIGHTED_NETWORKS},
    }  # fmt: skip


def helps(differences: Sequence[Mapping[str, Any]], variant: str) -> bool:
    """Whether the mean log loss of some task is credibly lower than with `constant` and with `permuted` weights.

    No task may be credibly worse.
    """
    network = variant.partition(" ")[0]
    controls = {f"{network} {control}" for control in WEIGHTS_TO_BEAT}
    intervals: dict[str, list[Interval]] = {}
    for d in differences:
        if d["variant"] == variant and d["against"] in controls and d["figure"].endswith(" logloss"):
            is_known = d["low"] is not None
            interval = Interval(d["low"], d["high"]) if is_known else Interval(-np.inf, np.inf)
            intervals.setdefault(d["figure"], []).append(interval)
    return beats_all(intervals)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each variant")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="at most; default: as many as the preset")
    parser.add_argument("--preset", default="small", help="default %(default)s")
    parser.add_argument("--protocol", default=UNSEEN_USERS, choices=PROTOCOLS, help="default %(default)s")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="default: all")
    parser.add_argument(
        "--table-only", action="store_true", help="without the further controls, the ablation and the curve over lambda"
    )
    args = parser.parse_args()
    require_at_least(args, seeds=1, max_epochs=1)
    lake, dataset, config = lake_of(args), dataset_of(args), choose_preset(PRESETS, args.preset)
    if args.max_epochs:
        config = replace(config, train=replace(config.train, max_epochs=args.max_epochs))
    days = lake.days(STEPS, dataset)
    if not days:
        raise UserError(f"no steps of {dataset.name} in {lake.root}: build them first (make run)")
    protocol, rows = PROTOCOLS[args.protocol], read_candidate_rows(lake, dataset, days)
    encoder = CandidateEncoder.fit(rows.filter(pa.array(protocol.fitted_on(rows))), dataset)
    parts = protocol.parts(store_of(rows, encoder, dataset))
    command = f"make study DATASET={dataset.name} STUDY=rmtl SEEDS={args.seeds} PROTOCOL={args.protocol}"
    command += f" EPOCHS={args.max_epochs}" * bool(args.max_epochs) + f" PRESET={args.preset}"
    if args.networks != list(NETWORKS):
        command += f' NETWORKS="{" ".join(args.networks)}"'
    command += " TABLE_ONLY=1" * args.table_only
    identity = identity_of(lake, dataset, days, config, args.protocol)
    checkpoints = Checkpoints(lake.studies(dataset) / "rmtl_trainings" / identity, identity)
    result = {
        "protocol": args.protocol, "dataset": dataset.name, "preset": args.preset, "command": command,
        "sessions": dataset.sessions.reason, "paper": PAPER.get(dataset.name, {}),
        **run_study(
            parts, config, args.seeds, args.networks, checkpoints,
            full_network=None if args.table_only else FULL_NETWORK,
        ),
    }  # fmt: skip
    path = lake.studies(dataset) / f"rmtl_{args.protocol}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(result, indent=1) + "\n")
    print("\n\n".join(as_markdown(result)))
    print(path)


def identity_of(lake: Lake, dataset: Dataset, days: Sequence[str], config: RMTLConfig, protocol: str) -> str:
    """A digest of everything that the trainings depend on besides network, seed and weighting."""
    tables = [lake.fingerprints(table, dataset.name, days) for table in (EXPOSURES, STEPS, ITEM_HISTORY)]
    parts = (config.to_json(), protocol, tables, code_version("mtorl_model"), choose_device(config.train.device).type)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    exit_with_one_line(main)
