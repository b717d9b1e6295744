"""Rank candidates by their predictions and the users' fusion weights.

python -m mtorl_model.fuse --dataset D --lake DIR --day DAY --candidates candidates.parquet --out ranked.parquet
    [--explored explored.parquet]

`python -m mtorl_model.predict --method unified_rl` writes such candidates.

The file of candidates has a row for each candidate of a user: user_id, the columns predicted_<objective> (0 to 1, for
each objective of the contract), and any others. With a column request_id, each request is one list, else each user. The
result has its rows in their order, with `fused_score` (the logarithm of equation 1 of UnifiedRL) and `fused_rank` (1 is
the best of the list; equal scores keep their order). For a user without weights all objectives count the same; the
column `fused_by` has the model, or `equal_weights`.

--explored: rank each request by weights drawn from the box around its user's (equation 3), and write them to this file
with their propensity, a row for each request. The same request gets the same weights again, until the day is scored
again with another model.

Shapes: N candidates, I objectives.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.arguments import dataset_of, day_parser, lake_of
from lakehouse.reading import read_tables
from mtorl_model.inference.candidate_files import read_candidate_file, write_candidate_file
from mtorl_model.inference.explored_fusion import explored_weights
from mtorl_model.methods.unified_rl.fusion import biases_of, fused_logs, powers_of
from schemas.dataset import Dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import FUSION_WEIGHTS
from schemas.tables.candidates.fusion_weights import bias_column, power_column

Floats = npt.NDArray[np.float64]

EQUAL_WEIGHTS = "equal_weights"
_FUSED = ("fused_score", "fused_rank", "fused_by")  # the columns that fuse adds


def fuse(candidates: pa.Table, weights: pa.Table, dataset: Dataset, key: str = "user_id") -> pa.Table:
    """The candidates with fused_score, fused_rank and fused_by.

    weights: rows of `fusion_weights`, or those of explored_weights with the key request_id. Columns of an earlier
    fusion are replaced. Raises UserError if a column is missing, a prediction is not a number from 0 to 1, or the users
    are not of the lake's type.
    """
    candidates = candidates.select([name for name in candidates.column_names if name not in _FUSED])
    names = [objective.name for objective in dataset.objectives]
    predicted = [f"predicted_{name}" for name in names]
    if missing := sorted({"user_id", *predicted} - {*candidates.column_names}):
        raise UserError(f"the candidates lack the column {', '.join(missing)}: name the predictions like this")
    require_ids(candidates)
    columns = [_cast(candidates, name, pa.float64()).to_numpy() for name in predicted]
    key_N = _cast(candidates, key, weights.schema.field(key).type)
    predictions_NI = np.column_stack(columns)
    if not ((predictions_NI >= 0) & (predictions_NI <= 1)).all():
        raise UserError("a prediction of the candidates is not a number from 0 to 1")
    row_N = pc.index_in(key_N, value_set=weights.column(key).combine_chunks()).combine_chunks()
    is_known_N, row_N = np.asarray(row_N.is_valid()), np.asarray(row_N.fill_null(0))
    equal_D = np.zeros(2 * len(names))
    power_NI = _weights(weights, map(power_column, names), row_N, is_known_N, powers_of(equal_D))
    bias_NI = _weights(weights, map(bias_column, names), row_N, is_known_N, biases_of(equal_D))
    score_N = fused_logs(predictions_NI, power_NI, bias_NI)
    version = weights.column("model_version")[0].as_py() if len(weights) else EQUAL_WEIGHTS
    return (
        candidates.append_column(_FUSED[0], pa.array(score_N))
        .append_column(_FUSED[1], pa.array(_ranks(candidates.column(list_column(candidates)), score_N)))
        .append_column(_FUSED[2], pa.array(np.where(is_known_N, version, EQUAL_WEIGHTS)))
    )


def list_column(candidates: pa.Table) -> str:
    """The column by which candidates are grouped into lists, in which they are ranked."""
    return "request_id" if "request_id" in candidates.column_names else "user_id"


def require_ids(candidates: pa.Table) -> None:
    """Raise UserError if an id is missing or neither a text nor a whole number, or a request belongs to two users."""
    names = list(dict.fromkeys((list_column(candidates), "user_id")))
    for name in names:
        ids = candidates.column(name)
        if not (pa.types.is_integer(ids.type) or pa.types.is_string(ids.type)):
            raise UserError(f"the column {name} of the candidates is {ids.type}: write it as text or whole numbers")
        if ids.null_count:
            raise UserError(f"{ids.null_count:,} candidates have no {name}: give each the one it belongs to")
    lists = candidates.select(names).group_by(names, use_threads=False).aggregate([])
    if len(lists) > pc.count_distinct(lists.column(names[0])).as_py():
        raise UserError("a request_id of the candidates belongs to two users: give every request its own")


def _cast(candidates: pa.Table, name: str, dtype: pa.DataType) -> pa.ChunkedArray:
    """A column in the lake's type. Raises UserError if it has other values."""
    try:
        return candidates.column(name).cast(dtype)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"the candidates have a column {name} of another type than the lake: {error}") from error


def _weights(
    weights: pa.Table, columns: Iterable[str], row_N: npt.NDArray[np.int64], is_known_N: npt.NDArray[np.bool_],
    equal_I: Floats,
) -> Floats:  # fmt: skip
    """[N, I]: the weights in the user's row, equal ones for a user without a row."""
    equal_NI = np.tile(equal_I, (len(row_N), 1))
    if not len(weights):
        return equal_NI
    users_NI = np.column_stack([weights.column(column).to_numpy() for column in columns])[row_N]
    return np.where(is_known_N[:, None], users_NI, equal_NI)


def _ranks(list_id: pa.ChunkedArray, score_N: Floats) -> npt.NDArray[np.int64]:
    """[N]: the place of each candidate in its list, from 1."""
    list_N = np.asarray(list_id.combine_chunks().dictionary_encode().indices)
    order_N = np.lexsort((np.arange(len(score_N)), -score_N, list_N))
    place_N = np.empty(len(score_N), np.int64)
    _, start_N, count_N = np.unique(list_N[order_N], return_index=True, return_counts=True)
    place_N[order_N] = np.arange(len(score_N)) - np.repeat(start_N, count_N) + 1
    return place_N


def explored(candidates: pa.Table, weights: pa.Table, dataset: Dataset, day: str) -> tuple[pa.Table, pa.Table]:
    """The candidates ranked by weights drawn for each request, and these weights (explored_weights)."""
    if missing := sorted({"request_id", "user_id"} - {*candidates.column_names}):
        raise UserError(f"the candidates lack the column {', '.join(missing)}: weights are drawn for each request")
    require_ids(candidates)
    user_id = _cast(candidates, "user_id", weights.schema.field("user_id").type)
    requests = pa.table({"request_id": candidates.column("request_id"), "user_id": user_id})
    drawn = explored_weights(requests, weights, dataset, day)
    return fuse(candidates, drawn, dataset, key="request_id"), drawn


def main() -> None:
    parser = day_parser(__doc__)
    parser.add_argument("--candidates", required=True, type=Path, metavar="FILE")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    parser.add_argument("--explored", type=Path, metavar="FILE", help="explore, and write what was drawn to this file")
    args = parser.parse_args()
    lake, dataset, day = lake_of(args), dataset_of(args), checked_day(args.day)
    partition = lake[FUSION_WEIGHTS, dataset, day]
    if not partition.require().rows:
        raise UserError(f"{partition.path} has no users: score a day with journeys (mtorl_nightly_{dataset.name})")
    if args.explored and args.explored.resolve() in (args.out.resolve(), args.candidates.resolve()):
        raise UserError(f"--explored {args.explored} is also another file of this command: choose another name")
    candidates = read_candidate_file(args.candidates)
    names = [f(o.name) for f in (power_column, bias_column) for o in dataset.objectives]
    weights = pa.concat_tables(read_tables([partition], ["user_id", *names, "half_width", "model_version"]))
    if args.explored:
        ranked, drawn = explored(candidates, weights, dataset, day)
        # The log comes first: what is served without a propensity teaches nothing.
        write_candidate_file(args.explored, drawn, {})
        print(f"{len(drawn):,} requests explored: {args.explored}")
    else:
        ranked = fuse(candidates, weights, dataset)
    write_candidate_file(args.out, ranked, {})
    known = pc.sum(pc.not_equal(ranked.column("fused_by"), EQUAL_WEIGHTS)).as_py() or 0
    print(f"{len(ranked):,} candidates ranked, {len(ranked) - known:,} of users without weights: {args.out}")


if __name__ == "__main__":
    exit_with_one_line(main)
