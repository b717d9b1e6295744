"""Table 1 of the RMTL paper on a dataset's log: multi-task networks, RMTL on three of them, and RMTL's controls.

python -m mtorl_model.studies.multitask.study --dataset D --lake LAKE [--seeds 1] [--max-epochs N] [--preset small]
    [--protocol unseen-users|published-time-split] [--networks mmoe ...]

Each network is trained without weights (stage 1a). For RMTL, critics of it are trained, and it is trained again from
there with each weighting. RMTL's weights help only if it is better than `constant` and `permuted`, whose weights have
the same size but no information. Differences are paired over users and seeds.

Writes `LAKE/studies/dataset=D/rmtl_<protocol>.json`.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.files import write_whole
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.parts import PROTOCOLS, UNSEEN_USERS, Parts
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.data.device import choose_device
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.metrics import Figures, reward_metrics, session_logloss
from mtorl_model.methods.common.label_trees import TreesConfig, classifier
from mtorl_model.methods.common.multitask import CandidateSizes
from mtorl_model.methods.method import choose_preset
from mtorl_model.methods.rmtl.config import PRESETS, RMTLConfig
from mtorl_model.methods.rmtl.member import untrained
from mtorl_model.methods.rmtl.stages import loss_weights, predict, train_actor, train_critics
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import STEPS

Floats = npt.NDArray[np.float64]

NETWORKS = ("single", "shared", "esmm", "mmoe", "ple", "aitm")
WEIGHTED_NETWORKS = ("esmm", "mmoe", "ple")
CONTROLS = ("retrained", "constant", "permuted", "return")
ABLATION = ("label", "value")  # of the paper; its third variant is `constant`
LAMBDAS = (0.1, 0.3, 1.0, 2.0)  # in addition to 0.7, the value of the paper
CURVE_NETWORK = "mmoe"
BOOSTING = "boosting"
FIGURES = ("auc", "logloss", "s_logloss", "ece")
_LARGEST_FIT = 400_000  # rows that the trees are fitted on, at most

# Table 1 of the paper: KuaiRand-1K, another size of the same log; AUC, log loss and s-logloss of CTR, then of CTCVR.
PAPER: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "kuairand": {
        "single": (0.7003, 0.6127, 0.6263, 0.7342, 0.5233, 0.5449),
        "shared": (0.7018, 0.6114, 0.6250, 0.7310, 0.5249, 0.5468),
        "esmm": (0.7009, 0.6128, 0.6261, 0.7350, 0.5220, 0.5436),
        "mmoe": (0.7014, 0.6119, 0.6255, 0.7324, 0.5237, 0.5450),
        "ple": (0.7026, 0.6111, 0.6252, 0.7339, 0.5235, 0.5454),
        "esmm critics": (0.7031, 0.6111, 0.6252, 0.7377, 0.5200, 0.5433),
        "mmoe critics": (0.7029, 0.6105, 0.6243, 0.7345, 0.5225, 0.5446),
        "ple critics": (0.7053, 0.6092, 0.6242, 0.7367, 0.5221, 0.5447),
    }
}


class Trained(NamedTuple):
    """A variant's predictions for the test rows, (N, T)."""

    variant: str
    p_NT: Floats


def variants(parts: Parts, config: RMTLConfig, seed: int, networks: Sequence[str]) -> Iterator[Trained]:
    """Train every variant with a seed; the variants of one network share stage 1a and the critics."""
    for name in networks:
        settings = replace(config, model=replace(config.model, network=name))
        network = untrained(settings, _sizes(parts.train), seed).network
        train_actor(network, parts.train, parts.valid, settings.train, seed=seed)
        yield Trained(name, predict(network, parts.test))
        if name in WEIGHTED_NETWORKS:
            critics, _ = train_critics(
                network, parts.train, settings.critic, batch_size=settings.train.batch_size, seed=seed,
                device=str(choose_device(settings.train.device)),
            )  # fmt: skip
            for label, weighting, value_weight in weightings(name, settings.critic.value_weight):
                critic = replace(settings.critic, weighting=weighting, value_weight=value_weight)
                actor, weight_of = copy.deepcopy(network), loss_weights(critics, critic, seed=seed)
                train_actor(actor, parts.train, parts.valid, settings.train, seed=seed, weight_of=weight_of)
                yield Trained(label, predict(actor, parts.test))


def _sizes(store: CandidateStore) -> CandidateSizes:
    return CandidateSizes(store.cardinalities, len(store.numeric_names), len(store.task_names))


def weightings(network: str, value_weight: float) -> Iterator[tuple[str, str, float]]:
    """Name of the variant, weighting and lambda. One network has the ablation and the curve over lambda, too."""
    for weighting in ("critics", *CONTROLS):
        yield f"{network} {weighting}", weighting, value_weight
    if network == CURVE_NETWORK:
        for weighting in ABLATION:
            yield f"{network} {weighting}", weighting, value_weight
        for further in LAMBDAS:
            yield f"{network} critics lambda {further:g}", "critics", further


def boosting(parts: Parts) -> Floats:
    """(N, T): gradient boosting on the same inputs."""
    config = TreesConfig()
    rows = np.sort(np.random.default_rng(0).permutation(len(parts.train))[:_LARGEST_FIT])
    train_NX, test_NX = parts.train.take(rows).features(), parts.test.features()
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


def compared_with(variant: str) -> tuple[str, ...]:
    """The variants to compare with: RMTL with its controls and its network, a network with boosting."""
    network, _, weighting = variant.partition(" ")
    if weighting == "critics":
        return (network, *(f"{network} {control}" for control in CONTROLS))
    return () if weighting or variant == BOOSTING else (BOOSTING,)


def run_study(parts: Parts, config: RMTLConfig, seeds: int, networks: Sequence[str] = NETWORKS) -> dict[str, Any]:
    """Figures of every variant, and differences to the variants that it is compared with; means over the seeds."""
    users = UserBootstrap(parts.test.user_N)
    figures = {BOOSTING: figures_of(boosting(parts), parts.test, users)}
    for seed in range(seeds):
        for variant, p_NT in variants(parts, config, seed, networks):
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
        for reference in compared_with(variant)
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
    controls = {f"{network} constant", f"{network} permuted"}
    chosen = [
        d for d in differences
        if d["variant"] == variant and d["against"] in controls and d["figure"].endswith(" logloss")
    ]  # fmt: skip
    if any(d["low"] is None or d["low"] > 0 for d in chosen):
        return False
    tasks = {d["figure"] for d in chosen}
    return any(all(d["high"] < 0 for d in chosen if d["figure"] == task) for task in tasks)


def as_text(result: Mapping[str, Any], paper: Mapping[str, tuple[float, ...]]) -> str:
    """The table, with the paper's figures in brackets, and the verdict on RMTL's weights."""
    rows = {(row["variant"], row["figure"]): row for row in result["rows"]}
    names = [f"{task} {figure}" for task in result["tasks"] for figure in FIGURES[:3]]
    lines = [f"{result['users']:,} users, {result['labels']:,} labels; {result['users_in_parts']}", f"{'':24}"]
    lines[1] += "".join(f"{name:>26}" for name in names)
    for variant in dict.fromkeys(row["variant"] for row in result["rows"]):
        published = paper.get(variant)
        cells = []
        for column, name in enumerate(names):
            cell = f"{rows[variant, name]['value']:.4f}"
            cells.append(f"{cell} ({published[column]:.4f})" if published and column < len(published) else cell)
        lines.append(f"{variant:24}" + "".join(f"{cell:>26}" for cell in cells))
    for network, is_better in result["rmtl_helps"].items():
        verdict = "helps beyond its controls" if is_better else "does not help beyond its controls"
        lines.append(f"RMTL on {network}: the weighting {verdict}")
    return "\n".join(lines)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each variant")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="at most; default: as many as the preset")
    parser.add_argument("--preset", default="small", help="default %(default)s")
    parser.add_argument("--protocol", default=UNSEEN_USERS, choices=PROTOCOLS, help="default %(default)s")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, help="default: all")
    args = parser.parse_args()
    require_at_least(args, seeds=1, max_epochs=1)
    lake, dataset, config = lake_of(args), dataset_of(args), choose_preset(PRESETS, args.preset)
    if args.max_epochs:
        config = replace(config, train=replace(config.train, max_epochs=args.max_epochs))
    days = lake.days(STEPS, dataset)
    if not days:
        raise UserError(f"no steps of {dataset.name} in {lake.root}: build them first (make run)")
    parts = PROTOCOLS[args.protocol](read_candidates(lake, dataset, days)[0])
    paper = PAPER.get(dataset.name, {})
    result = {
        "protocol": args.protocol, "dataset": dataset.name, "preset": args.preset,
        "sessions": dataset.sessions.reason, **run_study(parts, config, args.seeds, args.networks), "paper": paper,
    }  # fmt: skip
    path = lake.studies(dataset) / f"rmtl_{args.protocol}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(result, indent=1) + "\n")
    print(as_text(result, paper))
    print(path)


if __name__ == "__main__":
    exit_with_one_line(main)
