"""Predict what given candidates would bring, with the champion of a method on candidates.

python -m mtorl_model.predict --dataset D --lake DIR --method rmtl --candidates candidates.parquet
    --output predicted.parquet [--day DAY]

The file of candidates has a row for each candidate of a user: user_id, channel, the columns that the contract knows
`with` the candidate, and any others. A null is an unknown value. The result has its rows in their order, with
`predicted_<task>`, the chance that this would be the outcome if the candidate were the user's next exposure after the
end of DAY (default: the newest day with journeys), and `predicted_by`, the version of the model. A user without a
journey is predicted as one at their first exposure.

With --method unified_rl the chances are those of the contract's objectives. These are the predictions that its fusion
weights were learned for, so `python -m mtorl_model.fuse` can read the result.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.lake import Lake
from mtorl_model.arguments import add_method
from mtorl_model.champion.registry import Registry
from mtorl_model.inference.candidate_files import read_candidate_file, write_candidate_file
from mtorl_model.inference.given_candidates import predict_given
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import CANDIDATES
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import JOURNEYS

_PREDICTED_BY = "predicted_by"


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_method(parser)
    parser.add_argument("--candidates", required=True, type=Path, metavar="FILE")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--day", help="the day at whose end users are predicted; default: the newest with journeys")
    args = parser.parse_args()
    lake, dataset = lake_of(args), dataset_of(args)
    if METHODS[args.method].reads != CANDIDATES:
        raise UserError(
            f"--method {args.method} predicts before the candidate is known: name a method on candidates, such as rmtl"
        )
    day = checked_day(args.day) if args.day else _newest_day(lake, dataset)
    candidates = read_candidate_file(args.candidates)
    version, model = Registry(lake, dataset, args.method).load_champion()
    chance_NT, unknown = predict_given(lake, dataset, model, candidates, day)
    if not np.isfinite(chance_NT).all():
        raise UserError(f"model {version} predicts no finite numbers: train it again (make run)")
    added = {f"predicted_{name}": pa.array(p_N) for name, p_N in zip(model.label_names, chance_NT.T, strict=True)}
    added[_PREDICTED_BY] = pa.array([version] * len(candidates), pa.string())
    write_candidate_file(args.output, candidates, added)
    print(
        f"{len(candidates):,} candidates predicted by {version} at the end of {day}, {unknown:,} of users without a "
        f"journey: {args.output}"
    )


def _newest_day(lake: Lake, dataset: Dataset) -> str:
    days = lake.days(JOURNEYS, dataset)
    if not days:
        raise UserError(f"no journeys of {dataset.name} in {lake.root}: build them (make backfill)")
    return days[-1]


if __name__ == "__main__":
    exit_with_one_line(main)
