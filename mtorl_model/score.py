"""Score all users of a day: the channel policy and the reward rank of each, from their journeys.

python -m mtorl_model.score --dataset D --lake DIR --day YYYY-MM-DD
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.locks import locked
from lakehouse.manifest import Manifest
from lakehouse.reading import ROWS_PER_READ, read_tables, unswapped
from lakehouse.rows import ARROW, ROWS_PER_GROUP, arrow_schema
from lakehouse.staging import staging_folder
from mtorl_model.arguments import parser_of_a_day
from mtorl_model.budget.channel_level import ALPHA, ChannelCounts, channel_level, click_gain
from mtorl_model.champion.registry import champion, load_champion
from mtorl_model.data.journey_windows import journey_columns
from mtorl_model.inference.prediction_cache import (
    CACHE,
    AnswerFile,
    Earlier,
    earlier_answers,
    identity,
    keep_answers,
    record_type,
)
from mtorl_model.inference.ranking import best_first, fused_reward
from mtorl_model.inference.user_predictions import answer_all
from mtorl_model.methods.mtorl.artifact import Artifact
from schemas.contract import Table
from schemas.dataset import Dataset, get_dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import CHANNEL_POLICIES, JOURNEYS, channel_allocation, channel_policies, user_reward_ranks
from schemas.tables.channel_policies import FROM_MODEL, INITIAL
from schemas.tables.registry import SCORES

# A user with fewer exposures than this, in channels the model knows, gets the initial policy: one exposure
# says nothing about switching, and a transition is what the model was trained to predict.
MIN_JOURNEY = 2


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """U users, in the order of their journeys. Their policies stay in a file: they are the bulk of it all."""

    user_id: pa.Array
    gains_UG: npt.NDArray[np.float64]  # probability of each gain; of a short journey the base rate
    from_model_U: npt.NDArray[np.bool_]  # False: the journey is too short, the policy is the initial one
    counts: ChannelCounts  # of the exposures that the journeys remember
    carried: int  # users whose answer is that of an earlier scoring
    answers: AnswerFile
    initial_A: npt.NDArray[np.float64]  # equation 17, of the exposures that all these journeys remember

    def policy_XA(self, rows_X: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The policies of these rows (at least one): probability of each channel of the spec."""
        return np.where(self.from_model_U[rows_X, None], self.answers.take(rows_X)["policy"], self.initial_A)


def score_journeys(
    tables: Iterable[pa.Table], artifact: Artifact, dataset: Dataset, file: AnswerFile, earlier: Earlier | None = None
) -> Scores:
    """Scores of all rows of `tables` (layout of schemas/tables/journeys.py), in their order.

    Users of a short journey get the initial policy and the base rates of the gains. file: where to write what the model
    says of every user. earlier: answers to be carried over where the inputs are the same.
    """
    spec, rates = artifact.spec, artifact.initial_policy.gain_rates
    user_id = [pa.array([], ARROW[dataset.user_id.column.dtype])]
    gains, shown = [np.empty((0, len(spec.gains)))], [np.empty(0, dtype=np.int32)]
    counts, carried = ChannelCounts.none(len(spec.channels)), 0
    for answers in answer_all(tables, artifact, dataset, base_rate(artifact, dataset), earlier):
        records_U = answers.records_U
        file.append(records_U)
        user_id.append(answers.user_id)
        gains.append(records_U["gains"].copy())
        shown.append(records_U["shown"].copy())
        counts, carried = counts + answers.counts, carried + answers.carried
    from_model_U = np.concatenate(shown) >= MIN_JOURNEY
    return Scores(
        pa.concat_arrays(user_id),
        np.where(from_model_U[:, None], np.concatenate(gains), [rates[g] for g in spec.gains]),
        from_model_U,
        counts,
        carried,
        file,
        channel_level(spec.channels, counts).initial_A,
    )


def base_rate(artifact: Artifact, dataset: Dataset) -> float:
    """tau of the implicit policy: how often training users had the gain that is known at once."""
    return artifact.initial_policy.gain_rates[artifact.spec.gains[click_gain(dataset)]]


def allocation_table(scores: Scores, artifact: Artifact, dataset: Dataset, version: str) -> pa.Table:
    """The table `channel_allocation`, in the order of the spec's channels."""
    level, actions = channel_level(artifact.spec.channels, scores.counts), len(artifact.spec.channels)
    return _as_contract(
        channel_allocation.channel_allocation(dataset),
        {
            "channel": pa.array(level.channels, pa.string()),
            "position": pa.array(np.arange(actions, dtype=np.int32)),
            "exposures": pa.array(level.counts.exposures_A),
            "gained": pa.array(level.counts.gained_A),
            "reliable": pa.array(level.counts.reliable_A),
            "cost_nano": pa.array(level.counts.cost_A),
            "cost_gained_nano": pa.array(level.counts.cost_gained_A),
            "explicit": pa.array(level.explicit_A),
            "implicit": pa.array(level.implicit_A),
            "initial": pa.array(level.initial_A),
            "tau": pa.repeat(pa.scalar(base_rate(artifact, dataset), pa.float64()), actions),
            "alpha": pa.repeat(pa.scalar(ALPHA, pa.float64()), actions),
            "model_version": pa.repeat(version, actions),
        },
    )


def policies_tables(scores: Scores, artifact: Artifact, dataset: Dataset, version: str, day: str) -> Iterator[pa.Table]:
    """The table `channel_policies`, ordered by user_id, a row group at a time."""
    channels = pa.array(artifact.spec.channels, pa.string())
    for rows in _pieces(pc.sort_indices(scores.user_id)):
        policy_XA = scores.policy_XA(rows.to_numpy())
        users, actions = policy_XA.shape
        keys = channels.take(pa.array(np.tile(np.arange(actions), users)))
        offsets = pa.array(np.arange(0, users * actions + 1, actions, dtype=np.int32))
        yield _as_contract(
            channel_policies.channel_policies(dataset),
            {
                "user_id": scores.user_id.take(rows),
                "channel": channels.take(pa.array(policy_XA.argmax(axis=1))),
                "policy": pa.MapArray.from_arrays(offsets, keys, pa.array(policy_XA.ravel())),
                "source": _source(scores.from_model_U[rows.to_numpy()]),
                **_origin(artifact, version, day, users),
            },
        )


def ranks_tables(scores: Scores, artifact: Artifact, dataset: Dataset, version: str, day: str) -> Iterator[pa.Table]:
    """The table `user_reward_ranks`, ordered by rank, a row group at a time."""
    reward_U = fused_reward(scores.gains_UG, artifact.spec.gain_weights)
    ranked = 0
    for rows in _pieces(best_first(scores.user_id, reward_U)):
        gains_XG = scores.gains_UG[rows.to_numpy()]
        yield _as_contract(
            user_reward_ranks.user_reward_ranks(dataset),
            {
                "user_id": scores.user_id.take(rows),
                "predicted_reward": pa.array(reward_U[rows.to_numpy()]),
                **{f"predicted_{g}": pa.array(gains_XG[:, k].copy()) for k, g in enumerate(artifact.spec.gains)},
                "rank": pa.array(np.arange(ranked + 1, ranked + len(rows) + 1)),
                "source": _source(scores.from_model_U[rows.to_numpy()]),
                **_origin(artifact, version, day, len(rows)),
            },
        )
        ranked += len(rows)


def _pieces(order: pa.Array) -> Iterator[pa.Array]:
    """An order of the users, a row group at a time."""
    for start in range(0, len(order), ROWS_PER_GROUP):
        yield order.slice(start, ROWS_PER_GROUP)


def _origin(artifact: Artifact, version: str, day: str, users: int) -> dict[str, pa.Array]:
    """What every row names: the model, the features that it reads, and the day."""
    named = {"model_version": version, "feature_spec": artifact.spec.version, "day": day}
    return {name: pa.repeat(value, users) for name, value in named.items()}


def _source(from_model_U: npt.NDArray[np.bool_]) -> pa.Array:
    return pc.if_else(pa.array(from_model_U), FROM_MODEL, INITIAL)


def _as_contract(table: Table, columns: dict[str, pa.Array]) -> pa.Table:
    return pa.table(columns, arrow_schema(table))


def score_day(lake: Lake, dataset: Dataset, day: str, *, rows_per_read: int = ROWS_PER_READ) -> tuple[Manifest, ...]:
    """Publish `channel_policies`, `user_reward_ranks` and `channel_allocation` of a day, with the champion model.

    All of them, or none is new. Raises Busy where the journeys are published anew meanwhile.

    What was made from the day's journeys as they are stays as it was issued, on the newest day only if it was made
    by the champion of now: a new champion does not rewrite the past. Raises UserError where the day's journeys or
    the champion are missing, or the model's answer is no number.
    """
    with locked(lake, SCORES, dataset, [day]):
        lake[JOURNEYS, dataset, day].require()
        inputs = lake[CHANNEL_POLICIES, dataset, day].current_inputs()
        issued = [lake[table, dataset, day].manifest for table in SCORES]
        newest = lake.days(JOURNEYS, dataset)[-1] == day
        if not newest and _stand(issued, inputs, None):
            return _left_alone(issued, dataset, day)
        version, artifact = load_champion(lake, dataset)
        if _stand(issued, inputs, version):
            return _left_alone(issued, dataset, day)
        return _publish_scores(lake, dataset, day, version, artifact, rows_per_read)


def _stand(issued: Sequence[Manifest | None], inputs: Mapping[str, str], version: str | None) -> bool:
    """Whether all tables were made from these journeys by one model: this version, or any where it is None."""
    found = [manifest for manifest in issued if manifest is not None]
    if len(found) < len(SCORES):
        return False
    made_by = version or found[0].inputs.get("model", "")
    return all(manifest.inputs == {**inputs, "model": made_by} for manifest in found)


def _left_alone(issued: Sequence[Manifest | None], dataset: Dataset, day: str) -> tuple[Manifest, ...]:
    print(f"{', '.join(SCORES)} of {dataset.name} {day}: fresh, left alone")
    return tuple(manifest for manifest in issued if manifest is not None)


def _publish_scores(
    lake: Lake, dataset: Dataset, day: str, version: str, artifact: Artifact, rows_per_read: int
) -> tuple[Manifest, ...]:
    partition = lake[JOURNEYS, dataset, day].path
    tables = read_tables([partition], journey_columns(artifact.spec, dataset), rows_per_read)
    with staging_folder(lake) as staging, ExitStack() as open_files:
        staged = staging / CACHE
        answers = AnswerFile.create(staged, identity(artifact), record_type(artifact))
        open_files.callback(answers.close)
        earlier = open_files.enter_context(earlier_answers(lake, artifact, dataset))
        with unswapped([partition]):
            inputs = lake[CHANNEL_POLICIES, dataset, day].current_inputs()
            scores = score_journeys(tables, artifact, dataset, answers, earlier)
        if not all(np.isfinite(part[name]).all() for part in answers.pieces() for name in ("policy", "gains")):
            raise UserError(f"model {version} predicts no numbers on the journeys of {day}: train it again (make run)")
        contents: list[tuple[Table, Iterable[pa.Table]]] = [
            (channel_policies.channel_policies(dataset), policies_tables(scores, artifact, dataset, version, day)),
            (user_reward_ranks.user_reward_ranks(dataset), ranks_tables(scores, artifact, dataset, version, day)),
            (channel_allocation.channel_allocation(dataset), [allocation_table(scores, artifact, dataset, version)]),
        ]
        # All are written before the first is published: in between there is no work that could fail.
        rows = {table.name: _write(staging / table.name, table, content) for table, content in contents}
        published = tuple(
            lake[table, dataset, day].publish(
                staging / table,
                rows=rows[table],
                inputs={**inputs, "model": version},
                code=code_version("mtorl_model"),
                spec_version=artifact.spec.version,
                counts={INITIAL: int((~scores.from_model_U).sum())},
            )
            for table in SCORES
        )
        keep_answers(lake, dataset, staged)
    print(f"{scores.carried} of {len(scores.user_id)} answers carried over from the last scoring")
    return published


def _write(folder: Path, table: Table, content: Iterable[pa.Table]) -> int:
    """Write a partition's only file, row group by row group; the number of rows."""
    folder.mkdir()
    rows = 0
    with pq.ParquetWriter(folder / "part-00000.parquet", arrow_schema(table)) as writer:
        for part in content:
            writer.write_table(part)
            rows += len(part)
    return rows


def main() -> None:
    parser = parser_of_a_day(__doc__)
    args = parser.parse_args()
    lake, dataset, day = Lake(args.lake), get_dataset(args.dataset), checked_day(args.day)
    policies, *others = score_day(lake, dataset, day)
    print(
        f"{policies.rows} users scored by {policies.inputs['model']}, {policies.counts[INITIAL]} with a short journey"
    )
    now = champion(lake, dataset)
    if now.name == policies.inputs["model"] and now.day > day:
        print(f"note: {now.name} has learned the days up to {now.day}: these policies were no forecast on {day}")
    for manifest in (policies, *others):
        print(lake[manifest.table, dataset, day].path)


if __name__ == "__main__":
    exit_with_one_line(main)
