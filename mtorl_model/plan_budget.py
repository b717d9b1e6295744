"""Plan a day's budget: who is shown something in which channel, from the day's published scores.

python -m mtorl_model.plan_budget --dataset D --lake DIR --day YYYY-MM-DD [--budget AMOUNT] [--default-budget AMOUNT]

The budget is in the log's unit. Where the log has no costs, an exposure counts as 1: the budget is then a number of
exposures. Without --budget the day keeps the budget that it was planned with, and the plan is left alone where its
scores are still the same; a day that has none gets the default. Without any budget the plan names every user's best
channel and selects nobody. The expected costs of the
selected pairs stay within the budget; what they turn out to cost, the online procedure holds to it
(mtorl_model/budget/procedure.py).
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.channel_counts import dense_counts
from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.locks import locked
from lakehouse.manifest import Manifest
from lakehouse.reading import read_tables
from lakehouse.rows import ROWS_PER_GROUP
from lakehouse.staging import staging_folder
from mtorl_model.arguments import parser_of_a_day
from mtorl_model.budget.knapsack import NOTHING, Plan, best_pairs
from mtorl_model.budget.pair_reward import pair_click, pair_cost_nano, pair_reward
from mtorl_model.data.money import NANO, Floats, Ints, budget_nano, in_units
from mtorl_model.inference.channel_level import ChannelCounts, ChannelLevel, channel_level, click_gain
from schemas.dataset import Dataset, get_dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_ALLOCATION,
    CHANNEL_POLICIES,
    JOURNEYS,
    USER_REWARD_RANKS,
    budget_plan,
)
from schemas.tables.registry import SCORE_TABLES

_ROWS_PER_READ = 65_536
_BUDGET = "budget_nano"  # among the inputs of a plan


def plan_day(
    lake: Lake, dataset: Dataset, day: str, budget: int | None, *, default: int = 0
) -> tuple[Manifest, Plan | None]:
    """Publish `budget_plan` of a day; no Plan where the one that lies there stands.

    budget: nano; None: as the day was planned before, `default` where it has no budget yet. Raises UserError where the
    day's scores or journeys are missing or do not belong together.
    """
    # Nobody scores the day, or builds its journeys, between the look at the manifests and the last read.
    with locked(lake, (*SCORE_TABLES, JOURNEYS, BUDGET_PLAN), dataset, [day]):
        manifests = {name: lake[name, dataset, day].require() for name in (*SCORE_TABLES, JOURNEYS)}
        _require_one_scoring(manifests, dataset, day)
        planned = lake[BUDGET_PLAN, dataset, day].manifest
        if budget is None:
            budget = int(planned.inputs[_BUDGET]) if planned else 0
            budget = budget or default
        inputs = {**lake[BUDGET_PLAN, dataset, day].current_inputs(), _BUDGET: str(budget)}
        if planned and planned.inputs == inputs:
            return planned, None
        return _publish_plan(lake, dataset, day, budget, inputs, manifests[CHANNEL_POLICIES].spec_version)


def _publish_plan(
    lake: Lake, dataset: Dataset, day: str, budget: int, inputs: dict[str, str], spec_version: str | None
) -> tuple[Manifest, Plan]:
    """U users, A channels."""
    level = _level(_read(lake, CHANNEL_ALLOCATION, dataset, day, ["position", *_LEVEL]))
    policies = _read(lake, CHANNEL_POLICIES, dataset, day, ["user_id", "policy", "source", "model_version"])
    gain = dataset.gain_names[click_gain(dataset)]
    reward = f"predicted_{gain}"
    ranks = _read(lake, USER_REWARD_RANKS, dataset, day, ["user_id", "predicted_reward", reward])
    click_U = ranks.column(reward).to_numpy()
    policy_UA = _policy(policies, level.channels)
    shown_UA, clicked_UA = _record(lake, dataset, day, gain, policies.column("user_id"), level.channels)

    click_UA = pair_click(click_U, policy_UA, level.lift_A, shown_UA, clicked_UA)
    del policy_UA, shown_UA, clicked_UA
    reward_UA = pair_reward(ranks.column("predicted_reward").to_numpy(), click_U, click_UA)
    if dataset.has_costs and len(click_U) and not level.mean_cost_A.any():
        raise UserError(
            f"no exposure of {dataset.name} that the journeys of {day} remember has a cost, so nothing says what a "
            "pair costs: repair the costs of the log, or declare that it has none"
        )
    cost_UA = pair_cost_nano(click_UA, level) if dataset.has_costs else np.full(click_UA.shape, NANO)
    plan = best_pairs(reward_UA, cost_UA, budget)
    table = _as_contract(policies, level.channels, plan, reward_UA, cost_UA, budget, dataset)
    with staging_folder(lake) as staged:
        pq.write_table(table, staged / "part-00000.parquet", row_group_size=ROWS_PER_GROUP)
        manifest = lake[BUDGET_PLAN, dataset, day].publish(
            staged,
            rows=len(table),
            inputs=inputs,
            code=code_version("mtorl_model"),
            spec_version=spec_version,
            counts={"selected": int((plan.channel_U != NOTHING).sum()), "spend_nano": plan.spend_nano},
        )
    return manifest, plan


_COUNTS = ("exposures", "gained", "reliable", "cost_nano", "cost_gained_nano")
_LEVEL = ("channel", *_COUNTS, "alpha")


def _require_one_scoring(manifests: dict[str, Manifest], dataset: Dataset, day: str) -> None:
    """Policies, ranks and channel level come from one model and from the journeys that stand there now."""
    scored = [m for name, m in manifests.items() if name != JOURNEYS]
    if len({tuple(sorted(m.inputs.items())) for m in scored}) > 1 or (
        manifests[JOURNEYS].fingerprint not in scored[0].inputs.values()
    ):
        raise UserError(
            f"the scores of {dataset.name} on {day} are not all of the same journeys and model: score again"
        )


def _read(lake: Lake, name: str, dataset: Dataset, day: str, columns: list[str]) -> pa.Table:
    """A partition, ordered by its users or channels."""
    files = sorted(lake[name, dataset, day].path.glob("*.parquet"))
    table = pa.concat_tables([pq.ParquetFile(file).read(columns=columns) for file in files])
    return table.take(pc.sort_indices(table.column(columns[0])))


def _level(table: pa.Table) -> ChannelLevel:
    counts = ChannelCounts(*(table.column(name).to_numpy() for name in _COUNTS))
    return channel_level(table.column("channel").to_pylist(), counts, table.column("alpha")[0].as_py())


def _policy(policies: pa.Table, channels: tuple[str, ...]) -> Floats:
    """[U, A]: the published policies; each map lists the channels in the order of the feature spec."""
    maps = pa.concat_arrays(policies.column("policy").chunks)
    width = len(channels)
    keys = maps.keys.slice(maps.offsets[0].as_py(), len(maps) * width)
    position = pc.index_in(keys, value_set=pa.array(channels, pa.string()))
    if not np.array_equal(position.fill_null(-1).to_numpy(), np.tile(np.arange(width), len(maps))):
        raise UserError("the published policies are not of the channels of channel_allocation: score the day again")
    policy_UA: Floats = maps.items.slice(maps.offsets[0].as_py(), len(maps) * width).to_numpy().reshape(-1, width)
    return policy_UA


def _record(
    lake: Lake, dataset: Dataset, day: str, gain: str, user_id: pa.ChunkedArray, channels: tuple[str, ...]
) -> tuple[Ints, Ints]:
    """[U, A]: exposures and gains that each user is known to have had in each channel, in the order of user_id."""
    partition = lake[JOURNEYS, dataset, day].path
    shown_UA = np.zeros((len(user_id), len(channels)), np.int32)
    gained_UA = np.zeros_like(shown_UA)
    found = 0
    for rows in read_tables([partition], ["user_id", "next_step.seen_by_channel"], _ROWS_PER_READ):
        counts = pc.struct_field(rows.column("next_step").combine_chunks(), "seen_by_channel")
        at = pc.index_in(rows.column("user_id").combine_chunks(), value_set=user_id.combine_chunks())
        if at.null_count:
            raise UserError(f"journeys of {dataset.name} on {day} have users that are not scored: score the day again")
        index = at.to_numpy()
        shown_UA[index], gained_UA[index] = dense_counts(counts, ("exposures", gain), channels)
        found += len(rows)
    if found != len(user_id):
        raise UserError(
            f"{len(user_id)} users of {dataset.name} are scored on {day}, {found} have journeys: score again"
        )
    return shown_UA.astype(np.int64), gained_UA.astype(np.int64)


def _as_contract(
    policies: pa.Table,
    channels: tuple[str, ...],
    plan: Plan,
    reward_UA: Floats,
    cost_UA: Ints,
    budget: int,
    dataset: Dataset,
) -> pa.Table:
    """One row a user: the channel bought, or the one that would be worth most at the plan's price."""
    selected_U = plan.channel_U != NOTHING
    best_U = (reward_UA - plan.price * cost_UA).argmax(axis=1) if len(reward_UA) else plan.channel_U
    channel_U1 = np.where(selected_U, plan.channel_U, best_U)[:, None]
    users = len(policies)
    columns: dict[str, Any] = {
        "user_id": policies.column("user_id").combine_chunks(),
        "channel": pa.array(channels, pa.string()).take(pa.array(channel_U1[:, 0])),
        "expected_reward": pa.array(np.take_along_axis(reward_UA, channel_U1, axis=1)[:, 0]),
        "expected_cost_nano": pa.array(np.take_along_axis(cost_UA, channel_U1, axis=1)[:, 0]),
        "selected": pa.array(selected_U),
        "source": policies.column("source").combine_chunks(),
        "budget_nano": pa.repeat(pa.scalar(budget, pa.int64()), users),
        "reward_bound": pa.repeat(pa.scalar(plan.bound, pa.float64()), users),
        "model_version": policies.column("model_version").combine_chunks(),
    }
    contract = budget_plan.budget_plan(dataset)
    schema = pa.schema([pa.field(c.name, columns[c.name].type, nullable=c.nullable) for c in contract.columns])
    return pa.table(columns, schema)


def main() -> None:
    parser = parser_of_a_day(__doc__)
    parser.add_argument("--budget", help="in the log's unit; left out: what the day was planned with")
    parser.add_argument(
        "--default-budget", default="0", help="of a day that has none yet; left out: nobody is selected"
    )
    args = parser.parse_args()
    lake, dataset, day = Lake(args.lake), get_dataset(args.dataset), checked_day(args.day)
    asked = None if args.budget is None else budget_nano(args.budget)
    manifest, plan = plan_day(lake, dataset, day, asked, default=budget_nano(args.default_budget))
    spent, budget = (in_units(int(nano)) for nano in (manifest.counts["spend_nano"], manifest.inputs[_BUDGET]))
    worth = f"expected reward {plan.reward:g}, no plan brings more than {plan.bound:g}" if plan else "left alone"
    print(f"{manifest.counts['selected']} of {manifest.rows} users for {spent} of {budget}: {worth}")
    print(lake[BUDGET_PLAN, dataset, day].path)


if __name__ == "__main__":
    exit_with_one_line(main)
