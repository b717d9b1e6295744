"""UnifiedRL on a dataset's log: how well its fused score ranks what was shown to users it has never seen.

python -m mtorl_model.studies.fusion.study --dataset D --lake LAKE [--seeds 1] [--preset small] [--predictor boosting]

It is compared with equal weights, the best static weights (fitted on training users, by an evolution strategy, for the
figure itself), and each objective alone; all of them fuse the same predictions. Trained on training users, measured on
validation users; no test user is read. A trained seed is kept in `LAKE/studies/dataset=D/fusion/`, so a study that was
stopped trains only the seeds that are missing.

--predictor rmtl: the networks and trees of RMTL predict the objectives, in place of boosting.

Writes `LAKE/studies/dataset=D/fusion.json`, or `fusion_rmtl.json` with that predictor.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.code_version import code_version
from lakehouse.feature_specs import latest_spec
from lakehouse.files import write_whole
from mtorl_model.champion.training_inputs import candidate_policy
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.parts import Parts, by_user
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.evaluation.bootstrap import REPLICATES, estimate
from mtorl_model.evaluation.fusion_metrics import GroupedAUC, grouped_auc, mtf_gauc
from mtorl_model.evaluation.text import in_brackets
from mtorl_model.methods.method import Run, choose_preset
from mtorl_model.methods.model_folder import load_model, save_model
from mtorl_model.methods.unified_rl.chain.config import PRESETS
from mtorl_model.methods.unified_rl.chain.objective_models import BOOSTING
from mtorl_model.methods.unified_rl.fusion import log_scores
from mtorl_model.methods.unified_rl.method import UnifiedRL
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import EXPOSURES, STEPS

Floats = npt.NDArray[np.float64]

UNIFIED, STATIC, EQUAL = "unified_rl", "static weights", "equal weights"
NOT_IDENTIFIED = (
    "the log has neither the fusion weights of its exposures nor their propensities, and no lists of candidates"
)


def scores(model: UnifiedRL, test: CandidateStore) -> dict[str, Floats]:
    """The score of every row by variant."""
    fused = model.predict(test).fused
    static_ND, equal_ND = (np.tile(action_D, (len(test), 1)) for action_D in (model.static_D, 0.0 * model.static_D))
    single = dict(zip(test.objective_names, fused.objectives_XI.T, strict=True))
    predictions_NJI = fused.objectives_XI[:, None, :]
    return {
        UNIFIED: fused.score_X,
        STATIC: log_scores(predictions_NJI, static_ND)[:, 0],
        EQUAL: log_scores(predictions_NJI, equal_ND)[:, 0],
        **{f"{name} alone": p_N for name, p_N in single.items()},
    }


def figures_of(score_N: Floats, test: CandidateStore, weight_I: Floats) -> dict[str, GroupedAUC]:
    """MTF-GAUC, and for each objective the mean AUC within a user, by exposures."""
    unit_weight_N = np.ones(len(test))
    figures = {"mtf_gauc": mtf_gauc(test, score_N, weight_I)}
    for name, label_N in zip(test.objective_names, test.objectives_NI.T, strict=True):
        figures[f"{name} GAUC"] = grouped_auc(test.user_N, label_N > 0, score_N, unit_weight_N)
    return figures


def compare(models: list[UnifiedRL], test: CandidateStore) -> dict[str, Any]:
    """Figures of every variant, means over the seeds, and their differences to the static weights."""
    by_variant: dict[str, dict[str, Floats]] = {}
    users: dict[str, tuple[int, int]] = {}
    for model in models:
        for variant, score_N in scores(model, test).items():
            for name, auc in figures_of(score_N, test, model.weight_I).items():
                earlier_R = by_variant.setdefault(variant, {}).get(name, 0.0)
                by_variant[variant][name] = earlier_R + auc.figure_R / len(models)
                users[name] = auc.users, auc.left_out
    rows = [
        {
            "variant": variant, "figure": name, **estimate(figure_R),
            "minus_static": estimate(figure_R - by_variant[STATIC][name]),
            "minus_equal": estimate(figure_R - by_variant[EQUAL][name]),
        }
        for variant, figures in by_variant.items()
        for name, figure_R in figures.items()
    ]  # fmt: skip
    return {
        "users": {name: {"measured": count, "left_out": left_out} for name, (count, left_out) in users.items()},
        "labels": len(test), "rows": rows,
        "interval": f"95 %, {REPLICATES} bootstrap draws of users; differences are paired",
    }  # fmt: skip


def trained(folder: Path, identity: str, parts: Parts, model: UnifiedRL) -> UnifiedRL:
    """The model, trained, or read from the folder if it was trained there with that identity."""
    marker = folder / "identity"
    if marker.is_file() and marker.read_text() == identity:
        trained_model = load_model(folder / "model")
        assert isinstance(trained_model, UnifiedRL)
        return trained_model
    run = Run()
    model.fit(parts.train, parts.valid, run)
    print("\n".join(run.lines), flush=True)
    marker.unlink(missing_ok=True)
    save_model(folder / "model", model)
    write_whole(marker, identity)
    return model


def as_text(result: Mapping[str, Any]) -> str:
    """The figure of every variant, and its difference to the static weights."""
    measured = result["users"]["mtf_gauc"]
    lines = [
        f"{measured['measured']:,} users, {measured['left_out']:,} more have equal labels only; "
        f"{result['labels']:,} exposures",
        f"{'':18}{'MTF-GAUC':>26}   minus {STATIC}",
    ]
    for row in result["rows"]:
        if row["figure"] == "mtf_gauc":
            minus = row["minus_static"]
            lines.append(
                f"{row['variant']:18}{in_brackets(row):>26}   "
                f"{minus['value']:+.4f} [{minus['low'] or 0.0:+.4f}, {minus['high'] or 0.0:+.4f}]"
            )
    return "\n".join(lines)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--seeds", type=int, default=1, help="trainings, whose figures are averaged")
    parser.add_argument("--preset", default="small", help="default %(default)s")
    parser.add_argument(
        "--predictor", default=BOOSTING, help="of the objectives: %(default)s, or a method on candidates"
    )
    args = parser.parse_args()
    require_at_least(args, seeds=1)
    lake, dataset = lake_of(args), dataset_of(args)
    config = choose_preset(PRESETS, args.preset).changed({"predictor": args.predictor})
    name = "fusion" if args.predictor == BOOSTING else f"fusion_{args.predictor}"
    days = lake.days(STEPS, dataset)
    if not days:
        raise UserError(f"no steps of {dataset.name} in {lake.root}: build them first (make run)")
    store, encoder = read_candidates(lake, dataset, days)
    parts, spec = by_user(store), latest_spec(lake, dataset)[0]
    policy = candidate_policy(lake, dataset, days, parts.train, spec)
    fingerprints = lake.fingerprints(STEPS, dataset, days) | lake.fingerprints(EXPOSURES, dataset, days)
    models = []
    for seed in range(args.seeds):
        seeded = config.changed({"seed": seed})
        model = UnifiedRL(seeded, spec, policy)
        model.encoding = encoder.to_json()
        identity = f"{seeded.to_json()} {code_version('mtorl_model')} {sorted(fingerprints.items())}"
        models.append(trained(lake.studies(dataset) / name / f"{seed}", identity, parts, model))
    command = f"make study STUDY=fusion DATASET={dataset.name} SEEDS={args.seeds}"
    command += f" PREDICTOR={args.predictor}" * (args.predictor != BOOSTING)
    result = {
        "dataset": dataset.name, "preset": args.preset, "seeds": args.seeds, "days": [days[0], days[-1]],
        "protocol": "unseen-users: trained on training users, measured on validation users",
        "predictor": args.predictor, "command": command,
        "weights": dict(zip(store.objective_names, models[0].weight_I.tolist(), strict=True)),
        "off_policy": {"identified": False, "why": NOT_IDENTIFIED},
        **compare(models, parts.test),
    }  # fmt: skip
    path = lake.studies(dataset) / f"{name}.json"
    write_whole(path, json.dumps(result, indent=1) + "\n")
    print(as_text(result))
    print(path)


if __name__ == "__main__":
    exit_with_one_line(main)
