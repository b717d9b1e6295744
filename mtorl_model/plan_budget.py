"""Plan a day's budget: which users to buy an exposure for, and in which channel, from the day's published scores.

python -m mtorl_model.plan_budget --dataset D --lake DIR --day YYYY-MM-DD [--budget AMOUNT] [--default-budget AMOUNT]
    [--valuation tastes|composed] [--gains-of rmtl] [--method mtorl,rmtl]

The budget is in the log's unit. In a log without costs an exposure counts as 1, so the budget is a number of exposures.
Without --budget the day keeps the budget of its plan, and the plan stays unchanged if its scores are still the same; a
day without a plan gets the default budget. With a budget of 0 the plan contains every user's best channel and selects
no user. The expected costs of the selected pairs stay within the budget; the online procedure limits the real costs
(mtorl_model/budget/procedure.py).

Pairs are valued by the taste filter (mtorl_model/budget/taste_filter.py), whose constants are fitted on the day's
journeys. --method names the methods that score the day: if none of them recommends channels, nothing is planned.
--valuation composed values them by a composition of the published predictions
(mtorl_model/budget/pair_reward.py), as is always done if the click becomes known late. The predicted clicks and rewards
are those of the day's reward ranks; --gains-of takes the predictions of another method that has scored the day. Its
standing value is MTORL_GAINS_OF_<DATASET>.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.channel_counts import dense_counts
from lakehouse.arguments import dataset_of, day_parser, lake_of
from lakehouse.code_version import code_version
from lakehouse.journeys import read_journeys
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.models.versions import DEFAULT_METHOD
from lakehouse.reading import consistent_read
from lakehouse.rows import ROWS_PER_GROUP
from lakehouse.storage.scratch import work_folder
from mtorl_model.arguments import add_methods, methods_of
from mtorl_model.budget.click_record import ClickRecord, remembered_steps
from mtorl_model.budget.knapsack import NO_CHANNEL, Plan, best_pairs
from mtorl_model.budget.pair_reward import pair_click, pair_cost_nano, pair_reward
from mtorl_model.budget.predicted_gains import GAIN_TABLES, predicted_gains
from mtorl_model.budget.taste_filter import Tastes
from mtorl_model.budget.taste_fit import MOST_USERS, fit_tastes
from mtorl_model.data.money import NANO, Floats, Ints, budget_nano, in_units
from mtorl_model.inference.channel_level import ChannelCounts, ChannelLevel, channel_level, click_gain
from mtorl_model.methods import METHODS
from schemas.dataset import Dataset
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
_BUDGET, _VALUATION = "budget_nano", "valuation"  # among the inputs of a plan
TASTES, COMPOSED = "tastes", "composed"  # how pairs are valued


def plan_day(
    lake: Lake,
    dataset: Dataset,
    day: str,
    budget: int | None,
    *,
    default: int = 0,
    valuation: str = TASTES,
    gains_from: str = USER_REWARD_RANKS,
) -> tuple[Manifest, Plan | None]:
    """Publish `budget_plan` of a day; its manifest and the plan, or None if the published plan is still valid.

    budget: nano; None: the budget of the published plan, or `default` if the day has no plan or its budget is 0.
    gains_from: the table of the predicted gains, one of GAIN_TABLES. Raises UserError if the day's scores or journeys
    are missing or do not belong together; Busy if one of them is published again in the meantime.
    """
    if dataset.gain_names[click_gain(dataset)] in dataset.late_gains:
        valuation = COMPOSED
    partitions = [lake[name, dataset, day] for name in sorted({*SCORE_TABLES, gains_from})]
    with consistent_read([*partitions, *lake[JOURNEYS, dataset, day].read_together()]):
        manifests = {name: lake[name, dataset, day].require() for name in (*SCORE_TABLES, JOURNEYS)}
        journeys = lake.fingerprints(JOURNEYS, dataset, manifests[JOURNEYS].days)
        _require_one_scoring([manifests[name] for name in SCORE_TABLES], journeys, dataset, day)
        lake[gains_from, dataset, day].require()
        planned = lake[BUDGET_PLAN, dataset, day].manifest
        if budget is None:
            budget = int(planned.inputs[_BUDGET]) if planned else 0
            budget = budget or default
        inputs = {**lake[BUDGET_PLAN, dataset, day].current_inputs(), _BUDGET: str(budget), _VALUATION: valuation}
        inputs |= lake.fingerprints(gains_from, dataset, [day])
        if planned and planned.inputs == inputs:
            return planned, None
        table, plan = _best_plan(lake, dataset, day, budget, inputs[_VALUATION], gains_from)
    with work_folder() as staged:
        pq.write_table(table, staged / "part-0.parquet", row_group_size=ROWS_PER_GROUP, write_page_checksum=True)
        manifest = lake[BUDGET_PLAN, dataset, day].publish(
            staged,
            inputs=inputs,
            code=code_version("mtorl_model"),
            spec_version=manifests[CHANNEL_POLICIES].spec_version,
            counts={"selected": int((plan.channel_U != NO_CHANNEL).sum()), "spend_nano": plan.spend_nano},
        )
    return manifest, plan


def _best_plan(
    lake: Lake, dataset: Dataset, day: str, budget: int, valuation: str, gains_from: str
) -> tuple[pa.Table, Plan]:
    """The rows of `budget_plan`, and the plan in them."""
    level = _level(_read(lake, CHANNEL_ALLOCATION, dataset, day, ["position", *_LEVEL]))
    policies = _read(lake, CHANNEL_POLICIES, dataset, day, ["user_id", "policy", "source", "model_version"])
    gain = dataset.gain_names[click_gain(dataset)]
    click_U, reward_U = predicted_gains(lake, dataset, day, gains_from, policies.column("user_id"))
    if valuation == TASTES:
        click_UA = _click_by_taste(lake, dataset, day, gain, policies.column("user_id"), level.channels)
        # All clicks have the predicted gains of all users: those of single users cost reward (docs/budget.md).
        reward_U, click_U = (np.full_like(sum_U, sum_U.sum() / max(len(sum_U), 1)) for sum_U in (reward_U, click_U))
    else:
        policy_UA = _policy(policies, level.channels)
        exposures_UA, clicks_UA = _totals(lake, dataset, day, gain, policies.column("user_id"), level.channels)
        click_UA = pair_click(click_U, policy_UA, level.lift_A, exposures_UA, clicks_UA)
        del policy_UA, exposures_UA, clicks_UA  # keeps memory low for a million users
    reward_UA = pair_reward(reward_U, click_U, click_UA)
    if dataset.has_costs and len(click_U) and not level.mean_cost_A.any():
        raise UserError(
            f"no exposure of {dataset.name} in the journeys of {day} has a cost, so the cost of a pair is unknown: "
            "repair the costs of the log, or declare that it has no costs"
        )
    cost_UA = pair_cost_nano(click_UA, level) if dataset.has_costs else np.full(click_UA.shape, NANO)
    plan = best_pairs(reward_UA, cost_UA, budget)
    return _as_contract(policies, level.channels, plan, reward_UA, cost_UA, budget, dataset), plan


_COUNTS = ("exposures", "gained", "reliable", "cost_nano", "cost_gained_nano")
_LEVEL = ("channel", *_COUNTS, "alpha")


def _require_one_scoring(scored: Sequence[Manifest], journeys: Mapping[str, str], dataset: Dataset, day: str) -> None:
    """Policies, ranks and channel level must come from the same model and from the published journeys."""
    if len({tuple(sorted(m.inputs.items())) for m in scored}) > 1 or not journeys.items() <= scored[0].inputs.items():
        raise UserError(
            f"the scores of {dataset.name} on {day} are not all from the same journeys and model: score again"
        )


def _read(lake: Lake, name: str, dataset: Dataset, day: str, columns: list[str]) -> pa.Table:
    """A partition, sorted by the first of the columns."""
    table = lake[name, dataset, day].read(columns)
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
        raise UserError("the published policies have other channels than channel_allocation: score the day again")
    policy_UA: Floats = maps.items.slice(maps.offsets[0].as_py(), len(maps) * width).to_numpy().reshape(-1, width)
    return policy_UA


def _totals(
    lake: Lake, dataset: Dataset, day: str, gain: str, user_id: pa.ChunkedArray, channels: tuple[str, ...]
) -> tuple[Ints, Ints]:
    """[U, A]: the known exposures and gains of each user in each channel, in the order of user_id."""
    exposures_UA = np.zeros((len(user_id), len(channels)), np.int32)
    gains_UA = np.zeros_like(exposures_UA)
    for user_N, rows in _journeys(lake, dataset, day, user_id, []):
        exposures_UA[user_N], gains_UA[user_N] = _seen(rows, gain, channels)
    return exposures_UA.astype(np.int64), gains_UA.astype(np.int64)


def _click_by_taste(
    lake: Lake, dataset: Dataset, day: str, gain: str, user_id: pa.ChunkedArray, channels: tuple[str, ...]
) -> Floats:
    """[U, A]: the click probability at the end of the day, in the order of user_id."""
    tastes = _fit_tastes(lake, dataset, day, gain, user_id, channels)
    click_UA = np.zeros((len(user_id), len(channels)))
    for user_N, record in _click_records(lake, dataset, day, gain, user_id, channels):
        click_UA[user_N] = tastes.click(record, np.full(len(record), dataset.end_of_day_ms(day)))
    return click_UA


def _fit_tastes(
    lake: Lake, dataset: Dataset, day: str, gain: str, user_id: pa.ChunkedArray, channels: tuple[str, ...]
) -> Tastes:
    """Fitted on the first users that are read: files are split by a hash of the user, so any users will do."""
    records: list[ClickRecord] = []
    for _, record in _click_records(lake, dataset, day, gain, user_id, channels):
        records.append(record)
        if sum(map(len, records)) >= MOST_USERS:
            break
    return fit_tastes(ClickRecord.concatenate(records, len(channels)), len(channels))


def _click_records(
    lake: Lake, dataset: Dataset, day: str, gain: str, user_id: pa.ChunkedArray, channels: tuple[str, ...]
) -> Iterator[tuple[Ints, ClickRecord]]:
    """The journeys in blocks: the position of each user in user_id, and the exposures and clicks."""
    for user_N, rows in _journeys(lake, dataset, day, user_id, ["exposed_at_ms", "channel", gain]):
        exposures_NA, clicks_NA = (counts_NA.astype(np.int64) for counts_NA in _seen(rows, gain, channels))
        steps = remembered_steps(rows.column("memory").combine_chunks(), gain, channels)
        yield user_N, ClickRecord.from_totals(*steps, exposures_NA, clicks_NA)


def _journeys(
    lake: Lake, dataset: Dataset, day: str, user_id: pa.ChunkedArray, step_columns: list[str]
) -> Iterator[tuple[Ints, pa.Table]]:
    """The day's journeys in blocks: the position of each user in user_id, and the rows with these columns of steps."""
    columns = ["user_id", "next_step.seen_by_channel", *(f"memory.list.element.{name}" for name in step_columns)]
    journeys = 0
    for rows in read_journeys(lake, dataset, day, columns, _ROWS_PER_READ):
        user = pc.index_in(rows.column("user_id").combine_chunks(), value_set=user_id.combine_chunks())
        if user.null_count:
            raise UserError(f"journeys of {dataset.name} on {day} have users without scores: score the day again")
        yield user.to_numpy(), rows
        journeys += len(rows)
    if journeys != len(user_id):
        raise UserError(
            f"{len(user_id)} users of {dataset.name} have scores on {day}, {journeys} have journeys: score again"
        )


def _seen(journeys: pa.Table, gain: str, channels: tuple[str, ...]) -> tuple[Ints, Ints]:
    """[N, A] each: exposures and gains."""
    counts = pc.struct_field(journeys.column("next_step").combine_chunks(), "seen_by_channel")
    exposures_NA, gains_NA = dense_counts(counts, ("exposures", gain), channels)
    return exposures_NA, gains_NA


def _as_contract(
    policies: pa.Table,
    channels: tuple[str, ...],
    plan: Plan,
    reward_UA: Floats,
    cost_UA: Ints,
    budget: int,
    dataset: Dataset,
) -> pa.Table:
    """One row per user: the channel that the plan buys, or the one with the highest value at the plan's price."""
    selected_U = plan.channel_U != NO_CHANNEL
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


def _table_of_gains(dataset: Dataset, method: str | None) -> str:
    """The table with the predicted gains of a method; None: of the standing one, or of the ranks."""
    chosen = method or os.environ.get(f"MTORL_GAINS_OF_{dataset.name.upper()}") or DEFAULT_METHOD
    tables = [table for table in METHODS[chosen].publishes if table in GAIN_TABLES] if chosen != DEFAULT_METHOD else []
    if chosen != DEFAULT_METHOD and not tables:
        raise UserError(f"--gains-of {chosen}: this method publishes no predicted gains")
    return tables[0] if tables else USER_REWARD_RANKS


def _publishes_policies(method: str) -> bool:
    return CHANNEL_POLICIES in METHODS[method].publishes


def main() -> None:
    parser = day_parser(__doc__)
    parser.add_argument("--budget", help="in the log's unit; default: the budget of the published plan")
    parser.add_argument(
        "--default-budget", default="0", help="for a day without a budget; default: 0, which selects no user"
    )
    add_methods(parser)
    parser.add_argument("--gains-of", metavar="NAME", help="the method whose predicted gains are used")
    parser.add_argument("--valuation", choices=(TASTES, COMPOSED), default=TASTES, help="of pairs; default: tastes")
    args = parser.parse_args()
    lake, dataset, day = lake_of(args), dataset_of(args), checked_day(args.day)
    methods = methods_of(args)
    if lake[CHANNEL_POLICIES, dataset, day].manifest is None and not any(map(_publishes_policies, methods)):
        print(f"no budget plan of {day}: {', '.join(methods)} recommends no channel")
        return
    budget = None if args.budget is None else budget_nano(args.budget)
    manifest, plan = plan_day(
        lake,
        dataset,
        day,
        budget,
        default=budget_nano(args.default_budget),
        valuation=args.valuation,
        gains_from=_table_of_gains(dataset, args.gains_of),
    )
    spend, planned_budget = in_units(manifest.counts["spend_nano"]), in_units(int(manifest.inputs[_BUDGET]))
    reward = f"expected reward {plan.reward:g}, at most {plan.bound:g} is possible" if plan else "unchanged"
    print(f"{manifest.counts['selected']} of {manifest.rows} users for {spend} of {planned_budget}: {reward}")
    print(lake[BUDGET_PLAN, dataset, day].path)


if __name__ == "__main__":
    exit_with_one_line(main)
