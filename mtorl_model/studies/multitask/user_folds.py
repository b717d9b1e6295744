"""The champion of RMTL and gradient boosting on users whom neither has seen, for all users of a log.

python -m mtorl_model.studies.multitask.user_folds --dataset D --lake LAKE [--folds 4] [--measured 1] [--preset small]

The users are divided into folds at random. The users of a fold are measured; of the others, nine tenths train, and one
tenth chooses when to stop and fits the blend. Encodings, the networks, the trees and boosting see training users only.
The folds do not follow the splits of the pipeline, so that more labels are measured than a split has. The settings were
chosen on validation users, who are among the measured ones; no setting was chosen on a test user.

Writes `LAKE/studies/dataset=D/rmtl_user-folds.json`. A killed study continues after its last finished fold.
"""

import json
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.feature_specs import latest_spec
from lakehouse.files import write_whole
from lakehouse.lake import Lake
from mtorl_model.champion.training_inputs import candidate_policy
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.parts import Parts
from mtorl_model.data.candidates.reading import read_candidate_rows, store_of
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.methods.method import Run, choose_preset
from mtorl_model.methods.rmtl.config import PRESETS, RMTLConfig
from mtorl_model.methods.rmtl.member import Checkpoints
from mtorl_model.methods.rmtl.method import RMTL
from mtorl_model.studies.multitask.study import BOOSTING, boosting, figures_of, identity_of
from mtorl_model.studies.multitask.tables import PAPER, USER_FOLDS, as_markdown
from schemas.dataset import Dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import SPLITS, TEST, TRAIN, VALIDATION
from schemas.tables import STEPS

Floats = npt.NDArray[np.float64]

CHAMPION = "champion"
_VALIDATION_PARTS = 10  # one of this many parts of the users that are not measured is not trained on


def fold_splits(user_id: npt.NDArray[Any], folds: int, measured: int) -> npt.NDArray[np.int8]:
    """[N]: the part of each row, as an index in SPLITS: TEST for the users of the fold `measured`."""
    users, index_N = np.unique(user_id, return_inverse=True)
    order_U = np.random.default_rng(0).permutation(len(users))
    is_validation_U = np.random.default_rng([1, measured]).permutation(len(users)) % _VALIDATION_PARTS == 0
    split_U = np.where(is_validation_U, SPLITS.index(VALIDATION), SPLITS.index(TRAIN))
    split_U[order_U % folds == measured] = SPLITS.index(TEST)
    return split_U[index_N].astype(np.int8)


def parts_of(rows: pa.Table, dataset: Dataset, folds: int, measured: int) -> tuple[Parts, CandidateEncoder]:
    """The rows to train, to validate and to measure on, encoded as fitted on the training users."""
    split_N = fold_splits(rows.column("user_id").to_numpy(), folds, measured)
    rows = rows.set_column(rows.column_names.index("split"), "split", pa.array(split_N))
    encoder = CandidateEncoder.fit(rows.filter(pa.array(split_N == SPLITS.index(TRAIN))), dataset)
    store = store_of(rows, encoder, dataset)
    train, valid, test = (store.split_rows(split) for split in (TRAIN, VALIDATION, TEST))
    return Parts(train, valid, test, "no user is in two parts"), encoder


def fold_predictions(
    lake: Lake, dataset: Dataset, parts: Parts, encoder: CandidateEncoder, config: RMTLConfig
) -> dict[str, Floats]:
    """(N, T) for the measured rows, by model."""
    spec = latest_spec(lake, dataset)[0]
    days = lake.days(STEPS, dataset)
    model = RMTL(config, spec, candidate_policy(lake, dataset, days, parts.train, spec))
    model.encoding = encoder.to_json()
    run = Run()
    predicted = model.fit(parts.train, parts.valid, run).predict(parts.test).gains_XG
    print("\n".join(run.lines), flush=True)
    assert predicted is not None
    return {CHAMPION: predicted, BOOSTING: boosting(parts)}


def measure(by_fold: list[tuple[CandidateStore, dict[str, Floats]]]) -> dict[str, Any]:
    """The figures of both models on the rows of all folds, and their paired differences."""
    test = CandidateStore.concatenate([store for store, _ in by_fold])
    users = UserBootstrap(test.user_N)
    predicted = {name: np.concatenate([p[name] for _, p in by_fold]) for name in (BOOSTING, CHAMPION)}
    figures = {name: figures_of(p_NT, test, users) for name, p_NT in predicted.items()}
    differences = {name: figure - figures[BOOSTING][name] for name, figure in figures[CHAMPION].items()}
    return {
        "users": users.users, "labels": len(test), "tasks": list(test.task_names), "rmtl_helps": {},
        "interval": f"95 %, {users.replicates} bootstrap draws of users; differences are paired",
        "rows": [
            {"variant": variant, "figure": name, **estimate(figure)}
            for variant, by_name in figures.items()
            for name, figure in by_name.items()
        ],
        "differences": [
            {"variant": CHAMPION, "against": BOOSTING, "figure": name, **estimate(difference)}
            for name, difference in differences.items()
        ],
    }  # fmt: skip


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--folds", type=int, default=4, help="parts of the users; default %(default)s")
    parser.add_argument("--measured", type=int, default=1, help="of how many folds the users are measured; %(default)s")
    parser.add_argument("--preset", default="small", help="default %(default)s")
    args = parser.parse_args()
    require_at_least(args, folds=2, measured=1)
    if args.measured > args.folds:
        raise UserError(f"--measured {args.measured}: there are {args.folds} folds")
    lake, dataset, config = lake_of(args), dataset_of(args), choose_preset(PRESETS, args.preset)
    days = lake.days(STEPS, dataset)
    if not days:
        raise UserError(f"no steps of {dataset.name} in {lake.root}: build them first (make run)")
    rows = read_candidate_rows(lake, dataset, days)
    identity = identity_of(lake, dataset, days, config, f"{USER_FOLDS} {args.folds}")
    checkpoints = Checkpoints(lake.studies(dataset) / "rmtl_trainings" / identity, identity)
    by_fold = []
    for fold in range(args.measured):
        parts, encoder = parts_of(rows, dataset, args.folds, fold)
        run = partial(_as_tensors, partial(fold_predictions, lake, dataset, parts, encoder, config))
        state = checkpoints.stage(f"fold_{fold}", run)
        by_fold.append((parts.test, {name: p_NT.numpy() for name, p_NT in state.items()}))
    result = {
        "protocol": USER_FOLDS, "dataset": dataset.name, "preset": args.preset, "seeds": 1,
        "users_in_parts": f"{args.measured} of {args.folds} folds of the users are measured, by models that were "
        "trained on the others",
        "command": f"python -m mtorl_model.studies.multitask.user_folds --dataset {dataset.name} --lake LAKE "
        f"--folds {args.folds} --measured {args.measured}",
        "sessions": dataset.sessions.reason, "paper": PAPER.get(dataset.name, {}), **measure(by_fold),
    }  # fmt: skip
    path = lake.studies(dataset) / f"rmtl_{USER_FOLDS}.json"
    write_whole(path, json.dumps(result, indent=1) + "\n")
    print("\n\n".join(as_markdown(result)))
    print(path)


def _as_tensors(run: partial[dict[str, Floats]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(p_NT) for name, p_NT in run().items()}


if __name__ == "__main__":
    exit_with_one_line(main)
