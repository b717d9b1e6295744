"""Scores of all users from their journeys, and the tables that publish them.

Shapes: U users, A actions (channels), G gains, X selected rows.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.rows import ARROW_TYPES, ROWS_PER_GROUP, arrow_schema
from mtorl_model.inference.channel_level import ALPHA, ChannelCounts, channel_level, click_gain
from mtorl_model.inference.exploration import Recommendation, explore
from mtorl_model.inference.prediction_cache import CachedPredictions, PredictionFile
from mtorl_model.inference.ranking import best_first, fused_reward
from mtorl_model.inference.user_predictions import predict_users
from mtorl_model.methods.common.recommendation import recommended_channel
from mtorl_model.methods.method import GAINS, POLICY, Method, Prediction, base_rates
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.tables import channel_allocation, channel_policies, user_reward_ranks
from schemas.tables.channel_policies import FROM_MODEL, INITIAL

# A user with fewer exposures than this, in channels of the feature spec, gets the initial policy. The model was trained
# to predict transitions, and a journey of one exposure has no transition.
MIN_JOURNEY = 2


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The scores of U users, in the order of their journeys. Policies, the largest part, stay in a file.

    If the journey is too short, or the model does not predict it, the policy is the initial one, and each gain has its
    base rate.
    """

    user_id: pa.Array
    gains_UG: npt.NDArray[np.float64]  # probability of each gain
    long_U: npt.NDArray[np.bool_]  # False: the journey is too short
    counts: ChannelCounts  # of the exposures that the journeys remember
    reused: int  # users whose prediction came from the cache
    predictions: PredictionFile
    predicts: frozenset[str]  # of the model
    initial_A: npt.NDArray[np.float64]  # equation 17, for the exposures that all these journeys remember
    base_AG: npt.NDArray[np.float64] | None  # Method.base_values

    def policy_XA(self, rows_X: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The policies of these rows (at least one): probability of each channel of the spec."""
        if POLICY not in self.predicts:
            return np.tile(self.initial_A, (len(rows_X), 1))
        return np.where(self.long_U[rows_X, None], self.predictions.take(rows_X)["policy"], self.initial_A)

    def values_XAG(self, rows_X: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """The values of these rows (at least one); None if the model does not predict them."""
        if self.base_AG is None:
            return None
        return np.where(self.long_U[rows_X, None, None], self.predictions.take(rows_X)["values"], self.base_AG)

    def source(self, head: str, rows: pa.Array) -> pa.Array:
        """The column `source` of these rows: FROM_MODEL or INITIAL. head: POLICY or GAINS."""
        from_model_X = self.long_U[rows.to_numpy()] & (head in self.predicts)
        return pc.if_else(pa.array(from_model_X), FROM_MODEL, INITIAL)


def score_journeys(
    tables: Iterable[pa.Table],
    model: Method,
    dataset: Dataset,
    file: PredictionFile,
    cached: CachedPredictions | None = None,
) -> Scores:
    """Scores of all rows of `tables` (layout of schemas/tables/journeys.py), in their order.

    file: receives the predictions of every user. cached: predictions that are used again for equal inputs.
    """
    spec, rates = model.spec, base_rates(model)
    user_id = [pa.array([], ARROW_TYPES[dataset.user_id.column.dtype])]
    gains, exposures = [np.empty((0, len(spec.gains)))], [np.empty(0, dtype=np.int32)]
    counts, reused = ChannelCounts.zeros(len(spec.channels)), 0
    for predicted in predict_users(tables, model, dataset, base_rate(model, dataset), cached):
        records_U = predicted.records_U
        file.append(records_U)
        user_id.append(predicted.user_id)
        gains.append(records_U["gains"].copy() if GAINS in model.predicts else np.tile(rates, (len(records_U), 1)))
        exposures.append(records_U["shown"].copy())
        counts, reused = counts + predicted.counts, reused + predicted.reused
    long_U = np.concatenate(exposures) >= MIN_JOURNEY
    return Scores(
        pa.concat_arrays(user_id),
        np.where(long_U[:, None], np.concatenate(gains), rates),
        long_U,
        counts,
        reused,
        file,
        model.predicts,
        channel_level(spec.channels, counts).initial_A,
        model.base_values(),
    )


def base_rate(model: Method, dataset: Dataset) -> float:
    """tau of the implicit policy: the rate of clicks (see click_gain) among training users."""
    return model.initial_policy.gain_rates[model.spec.gains[click_gain(dataset)]]


def allocation_table(scores: Scores, model: Method, dataset: Dataset, version: str) -> pa.Table:
    """The table `channel_allocation`, in the order of the spec's channels."""
    level, actions = channel_level(model.spec.channels, scores.counts), len(model.spec.channels)
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
            "tau": pa.repeat(pa.scalar(base_rate(model, dataset), pa.float64()), actions),
            "alpha": pa.repeat(pa.scalar(ALPHA, pa.float64()), actions),
            "model_version": pa.repeat(version, actions),
        },
    )


def policies_tables(
    scores: Scores,
    model: Method,
    dataset: Dataset,
    version: str,
    day: str,
    recommendation: Recommendation,
) -> Iterator[pa.Table]:
    """The table `channel_policies`, ordered by user_id, in chunks of a row group.

    A user with a short journey has the values of the average user.
    """
    channels = pa.array(model.spec.channels, pa.string())
    for rows in _row_groups(pc.sort_indices(scores.user_id)):
        policy_XA, values_XAG = scores.policy_XA(rows.to_numpy()), scores.values_XAG(rows.to_numpy())
        user_id = scores.user_id.take(rows)
        best_X = recommended_channel(Prediction(policy_XA, None, values_XAG), recommendation.basis, model.best_channel)
        chosen = explore(best_X, user_id, day, len(channels), recommendation.exploration)
        values = {gain: None if values_XAG is None else values_XAG[..., k] for k, gain in enumerate(model.spec.gains)}
        yield _as_contract(
            channel_policies.channel_policies(dataset),
            {
                "user_id": user_id,
                "channel": channels.take(pa.array(chosen.channel_X)),
                "basis": pa.repeat(recommendation.basis, len(rows)),
                "explored": pa.array(chosen.explored_X),
                "propensity": pa.array(chosen.propensity_X),
                **{f"expected_{gain}": _by_channel(channels, value_XA, len(rows)) for gain, value_XA in values.items()},
                "policy": _by_channel(channels, policy_XA, len(rows)),
                "source": scores.source(POLICY, rows),
                **_origin(model, version, day, len(rows)),
            },
        )


def _by_channel(channels: pa.Array, value_XA: npt.NDArray[np.float64] | None, rows: int) -> pa.Array:
    """One map for each row, from the channel to its value; null without values."""
    if value_XA is None:
        return pa.nulls(rows, pa.map_(pa.string(), pa.float64()))
    actions = len(channels)
    keys = channels.take(pa.array(np.tile(np.arange(actions), rows)))
    offsets = pa.array(np.arange(0, rows * actions + 1, actions, dtype=np.int32))
    return pa.MapArray.from_arrays(offsets, keys, pa.array(value_XA.ravel()))


def ranks_tables(scores: Scores, model: Method, dataset: Dataset, version: str, day: str) -> Iterator[pa.Table]:
    """The table `user_reward_ranks`, ordered by rank, in chunks of a row group."""
    reward_U = fused_reward(scores.gains_UG, model.spec.gain_weights)
    ranked = 0
    for rows in _row_groups(best_first(scores.user_id, reward_U)):
        gains_XG = scores.gains_UG[rows.to_numpy()]
        yield _as_contract(
            user_reward_ranks.user_reward_ranks(dataset),
            {
                "user_id": scores.user_id.take(rows),
                "predicted_reward": pa.array(reward_U[rows.to_numpy()]),
                **{f"predicted_{g}": pa.array(gains_XG[:, k].copy()) for k, g in enumerate(model.spec.gains)},
                "rank": pa.array(np.arange(ranked + 1, ranked + len(rows) + 1)),
                "source": scores.source(GAINS, rows),
                **_origin(model, version, day, len(rows)),
            },
        )
        ranked += len(rows)


def _row_groups(order: pa.Array) -> Iterator[pa.Array]:
    """The indices of the users, in chunks of a row group."""
    for start in range(0, len(order), ROWS_PER_GROUP):
        yield order.slice(start, ROWS_PER_GROUP)


def _origin(model: Method, version: str, day: str, users: int) -> dict[str, pa.Array]:
    """The columns that are equal in all rows: the model, its features, and the day."""
    named = {"model_version": version, "feature_spec": model.spec.version, "day": day}
    return {name: pa.repeat(value, users) for name, value in named.items()}


def _as_contract(table: Table, columns: dict[str, pa.Array]) -> pa.Table:
    return pa.table(columns, arrow_schema(table))
