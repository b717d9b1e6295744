"""Score all users of a day: the channel policy and the reward rank of each, from their journeys.

python -m mtorl_model.score --dataset D --lake DIR --day YYYY-MM-DD
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtorl_model.artifact import Artifact
from mtorl_model.budget.channel_level import ALPHA, ChannelCounts, channel_level, click_gain, count_remembered
from mtorl_model.encoding import Encoder
from mtorl_model.prediction import WINDOWS_AT_ONCE, predict
from mtorl_model.ranking import best_first, fused_reward
from mtorl_model.reading import ROWS_PER_READ, read_tables, regrouped
from mtorl_model.registry import champion, load_champion
from mtorl_model.rows import ARROW, arrow_schema
from mtorl_model.windows import journeys_to_windows
from schemas.contract import Table
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.freshness import scored_inputs
from schemas.locks import locked
from schemas.paths import Lake, checked_day
from schemas.publishing import Manifest, code_version, publish, read_manifest, require_manifest, staging_folder
from schemas.steps import profile_inputs
from schemas.tables import channel_allocation, channel_policies, journeys, user_reward_ranks
from schemas.tables.channel_policies import FROM_MODEL, INITIAL

# A user with fewer exposures than this, in channels the model knows, gets the initial policy: one exposure
# says nothing about switching, and a transition is what the model was trained to predict.
MIN_JOURNEY = 2
ROWS_PER_GROUP = 100_000
TABLES = (channel_policies.NAME, user_reward_ranks.NAME, channel_allocation.NAME)


@dataclass(frozen=True, slots=True)
class Scores:
    """U users. policy_UA: probability of each channel of the spec; gains_UG: of each gain, both float64."""

    user_id: pa.Array
    policy_UA: npt.NDArray[np.float64]
    gains_UG: npt.NDArray[np.float64]
    from_model_U: npt.NDArray[np.bool_]  # False: the journey is too short, this is the initial policy
    counts: ChannelCounts  # of the exposures that the journeys remember


def score_journeys(tables: Iterable[pa.Table], artifact: Artifact, dataset: Dataset) -> Scores:
    """Scores of all rows of `tables` (layout of schemas/tables/journeys.py), in their order.

    Only the scores are held for all users, never their journeys. Users of a short journey get the initial policy of
    equation 17, of the exposures that all these journeys remember, and the base rates of the gains.
    """
    spec, steps = artifact.spec, artifact.config.steps
    encoder = Encoder(spec, dataset, artifact.config.reward_form)
    actions, gains = len(spec.channels), len(spec.gains)
    user_id = [pa.array([], ARROW[dataset.user_id.column.dtype])]
    policy, predicted = [np.empty((0, actions))], [np.empty((0, gains))]
    shown = [np.empty(0, dtype=np.int64)]
    counts, tau = ChannelCounts.none(actions), base_rate(artifact, dataset)
    for users in regrouped(tables, WINDOWS_AT_ONCE):
        windows = journeys_to_windows(users, spec, dataset, steps)
        encoded = encoder.encode(windows)
        policy_BLA, gains_BLG = predict(artifact, encoded.batch())
        counts += count_remembered(windows, encoded, gains_BLG, tau, dataset)
        user_id += windows.column("user_id").chunks
        policy.append(policy_BLA[:, -1])
        predicted.append(gains_BLG[:, -1])
        seen = pc.list_element(windows.column("seen_exposures_by_channel").combine_chunks(), steps - 1)
        shown.append(seen.flatten().to_numpy().reshape(-1, actions).sum(axis=1))
    from_model_U = np.concatenate(shown) >= MIN_JOURNEY
    initial_A, rates = channel_level(spec.channels, counts).initial_A, artifact.initial_policy.gain_rates
    return Scores(
        pa.concat_arrays(user_id),
        np.where(from_model_U[:, None], np.concatenate(policy), initial_A),
        np.where(from_model_U[:, None], np.concatenate(predicted), [rates[g] for g in spec.gains]),
        from_model_U,
        counts,
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


def policies_table(scores: Scores, artifact: Artifact, dataset: Dataset, version: str, day: str) -> pa.Table:
    """The table `channel_policies`, ordered by user_id."""
    order = pc.sort_indices(scores.user_id)
    policy_UA = scores.policy_UA[order.to_numpy()]
    users, actions = policy_UA.shape
    channels = pa.array(artifact.spec.channels, pa.string())
    keys = channels.take(pa.array(np.tile(np.arange(actions), users)))
    offsets = pa.array(np.arange(0, users * actions + 1, actions, dtype=np.int32))
    return _as_contract(
        channel_policies.channel_policies(dataset),
        {
            "user_id": scores.user_id.take(order),
            "channel": channels.take(pa.array(policy_UA.argmax(axis=1))),
            "policy": pa.MapArray.from_arrays(offsets, keys, pa.array(policy_UA.ravel())),
            "source": _source(scores.from_model_U[order.to_numpy()]),
            **_origin(artifact, version, day, users),
        },
    )


def ranks_table(scores: Scores, artifact: Artifact, dataset: Dataset, version: str, day: str) -> pa.Table:
    """The table `user_reward_ranks`, ordered by rank."""
    reward_U = fused_reward(scores.gains_UG, artifact.spec.gain_weights)
    order = best_first(scores.user_id, reward_U)
    gains_UG = scores.gains_UG[order.to_numpy()]
    return _as_contract(
        user_reward_ranks.user_reward_ranks(dataset),
        {
            "user_id": scores.user_id.take(order),
            "predicted_reward": pa.array(reward_U[order.to_numpy()]),
            **{f"predicted_{g}": pa.array(gains_UG[:, k].copy()) for k, g in enumerate(artifact.spec.gains)},
            "rank": pa.array(np.arange(1, len(order) + 1)),
            "source": _source(scores.from_model_U[order.to_numpy()]),
            **_origin(artifact, version, day, len(order)),
        },
    )


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

    All of them, or none is new.

    What was made from the day's journeys as they are stays as it was issued, on the newest day only if it was made
    by the champion of now: a new champion does not rewrite the past. Raises UserError where the day's journeys or
    the champion are missing, or the model's answer is no number.
    """
    with locked(lake, TABLES, dataset.name, [day]):
        require_manifest(lake, journeys.NAME, dataset.name, day)
        inputs = scored_inputs(lake, dataset.name, day)
        issued = [read_manifest(lake.partition(table, dataset.name, day)) for table in TABLES]
        newest = lake.days(journeys.NAME, dataset.name)[-1] == day
        if not newest and _stand(issued, inputs, None):
            return _left_alone(issued, dataset, day)
        version, artifact = load_champion(lake, dataset)
        if _stand(issued, inputs, version):
            return _left_alone(issued, dataset, day)
        return _publish_scores(lake, dataset, day, version, artifact, inputs, rows_per_read)


def _stand(issued: Sequence[Manifest | None], inputs: Mapping[str, str], version: str | None) -> bool:
    """Whether all tables were made from these journeys by one model: this version, or any where it is None."""
    found = [manifest for manifest in issued if manifest is not None]
    if len(found) < len(TABLES):
        return False
    made_by = version or found[0].inputs.get("model", "")
    return all(manifest.inputs == {**inputs, "model": made_by} for manifest in found)


def _left_alone(issued: Sequence[Manifest | None], dataset: Dataset, day: str) -> tuple[Manifest, ...]:
    print(f"{', '.join(TABLES)} of {dataset.name} {day}: fresh, left alone")
    return tuple(manifest for manifest in issued if manifest is not None)


def _publish_scores(
    lake: Lake,
    dataset: Dataset,
    day: str,
    version: str,
    artifact: Artifact,
    inputs: Mapping[str, str],
    rows_per_read: int,
) -> tuple[Manifest, ...]:
    partition = lake.partition(journeys.NAME, dataset.name, day)
    kept = {f.name for f in artifact.spec.kept}
    columns = ["user_id", *(c.name for c in profile_inputs(dataset) if c.name in kept), "memory", "next_step"]
    scores = score_journeys(read_tables([partition], columns, rows_per_read), artifact, dataset)
    if not (np.isfinite(scores.policy_UA).all() and np.isfinite(scores.gains_UG).all()):
        raise UserError(f"model {version} predicts no numbers on the journeys of {day}: train it again (make run)")
    contents = (
        policies_table(scores, artifact, dataset, version, day),
        ranks_table(scores, artifact, dataset, version, day),
        allocation_table(scores, artifact, dataset, version),
    )
    with staging_folder(lake) as staging:
        # All are written before the first is published: in between there is no work that could fail.
        for table, content in zip(TABLES, contents, strict=True):
            (staging / table).mkdir()
            pq.write_table(content, staging / table / "part-00000.parquet", row_group_size=ROWS_PER_GROUP)
        return tuple(
            publish(
                lake, table, dataset.name, day, staging / table,
                rows=len(content),
                inputs={**inputs, "model": version},
                code=code_version("mtorl_model"),
                spec_version=artifact.spec.version,
                counts={INITIAL: int((~scores.from_model_U).sum())},
            )
            for table, content in zip(TABLES, contents, strict=True)
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--day", required=True)
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
        print(lake.partition(manifest.table, dataset.name, day))


if __name__ == "__main__":
    exit_with_one_line(main)
