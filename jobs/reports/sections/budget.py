"""The section about the budget: which users and channels the day's budget pays for."""

from jobs.reports.charts import bars
from jobs.reports.content import HtmlTable, Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import count, number
from jobs.reports.svg import Series
from schemas.tables import BUDGET_PLAN

_NANO = 1e9
_MOST_CHANNELS = 10
_LOOK_AT_SPEND = "Look for a spend far below the budget: no other user is worth the cost, or the costs are wrong."


def budget_section(view: DayView) -> Section:
    """Budget and planned spend, and the selected users by channel. Needs all columns of `budget_plan`."""
    manifest = view.manifests.get(BUDGET_PLAN)
    if manifest is None:
        return _without_plan("This day has no budget plan.")
    if not manifest.rows:
        return _without_plan("There is no user to spend a budget on.")
    budget, spend = int(manifest.inputs["budget_nano"]) / _NANO, manifest.counts["spend_nano"] / _NANO
    if not budget:
        return _without_plan(
            "The day has no budget: the plan names the best channel of every user and selects no user. The nightly "
            "run's parameter `budget` sets one."
        )
    rows = view.query(
        BUDGET_PLAN,
        """SELECT channel, count(*), sum(expected_cost_nano) / 1e9, sum(expected_reward) FROM "partition"
           WHERE selected GROUP BY channel ORDER BY count(*) DESC, channel""",
    )
    reward = sum(row[3] for row in rows)
    bound = view.query(BUDGET_PLAN, 'SELECT max(reward_bound) FROM "partition"')[0][0]
    unit = "of the log's unit of cost" if view.dataset.has_costs else "exposures (the log has no costs)"
    table = HtmlTable(
        "Channels bought", ("Channel", "Users", "Expected cost", "Expected reward"),
        tuple((channel, f"{users:,}", number(cost), number(gain)) for channel, users, cost, gain in rows),
        frozenset({1, 2, 3}), folded=len(rows) > _MOST_CHANNELS,
    )  # fmt: skip
    return Section(
        "budget", "Budget",
        (f"A budget of {number(budget)} {unit} buys {manifest.counts['selected']:,} of {manifest.rows:,} users, at an "
         f"expected cost of {number(spend)} and an expected reward of {number(reward)} in all. No plan within the "
         f"budget could be expected to bring more than {number(bound)}.",),
        (_spend(budget, spend), _users_by_channel(rows[:_MOST_CHANNELS])),
        (table,),
        (TrendFigure("Share of the budget that is planned to be spent", "", spend / budget, "share",
                     "Look for a drop: too few pairs of user and channel are worth their cost."),),
    )  # fmt: skip


def _without_plan(text: str) -> Section:
    return Section("budget", "Budget", (text,))


def _spend(budget: float, spend: float) -> Picture:
    title = "Budget and planned spend"
    picture = bars(title, ["budget", "planned spend"], [Series("", [budget, spend])], number)
    return Picture(title, picture, _LOOK_AT_SPEND)


def _users_by_channel(rows: list[tuple]) -> Picture:
    title = "Users bought by channel"
    picture = bars(title, [row[0] for row in rows], [Series("", [row[1] for row in rows])], count)
    return Picture(title, picture, "Look for a mix that you can explain, above all if one channel gets all the money.")
