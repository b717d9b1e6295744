"""Sections about what comes out: policies, reward ranks, the budget."""

from jobs.reports.content import Grid, Headline, Picture, Section
from jobs.reports.day import Day
from jobs.reports.svg import Series, bars, count, lines, number, share
from schemas.days import day_plus
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_POLICIES,
    EXPOSURES,
    USER_REWARD_RANKS,
    channel_policies,
)

_NANO = 1e9
_MOST_CHANNELS = 10
_TOP = 10
_POINTS = 40  # of the curve of ranks


def policy_section(day: Day) -> Section:
    """The mix of channels that the policies ask for, beside what was shown, and beside the day before."""
    title = "Policies: which channel next"
    if not day.holds(CHANNEL_POLICIES):
        return Section("policies", title, ("No channel policies of this day: it was not scored (yet).",))
    users = day.manifests[CHANNEL_POLICIES].rows
    mix = _mix(day, day.ds)
    best = dict(day.query(CHANNEL_POLICIES, 'SELECT channel, count(*) FROM "partition" GROUP BY ALL'))
    initial = day.query(CHANNEL_POLICIES, f"""SELECT count(*) FROM "partition"
                                                   WHERE source = '{channel_policies.INITIAL}'""")[0][0]  # fmt: skip
    logged = _logged(day)
    yesterday = day_plus(day.ds, -1)
    before = day.lake[CHANNEL_POLICIES, day.dataset, yesterday].manifest
    mix_before = _mix(day, yesterday) if before and before.rows else {}
    channels = sorted(mix, key=lambda c: -mix[c])
    shown = channels[:_MOST_CHANNELS]
    series = [Series("policies", [mix[c] for c in shown])]
    if logged:
        series.append(Series("shown on the day", [logged.get(c, (0.0,))[0] for c in shown]))
    if mix_before:
        series.append(Series("policies the day before", [mix_before.get(c, 0.0) for c in shown]))
    gains = day.dataset.gain_names
    grid = Grid(
        "Channels",
        ("Channel", "Users it is best for", "Share of users", "Mean probability", "Shown on the day", *gains),
        tuple(
            (c, f"{best.get(c, 0):,}", share(best.get(c, 0) / users if users else 0), share(mix[c]),
             *(("", *("" for _ in gains)) if c not in logged else tuple(
                 "" if v is None else share(v) for v in logged[c])))
            for c in channels
        ),
        frozenset(range(1, 5 + len(gains))), folded=len(channels) > _MOST_CHANNELS,
    )  # fmt: skip
    leader = max(best.values(), default=0) / users if users else 0.0
    look = "Look for one channel that takes all: the policy has collapsed and says nothing about the user."
    text = (
        f"For each of {users:,} users the model says with what probability to use which channel next. "
        f"{initial:,} users have too short a journey: they get the channels' overall policy."
    )
    beyond = f" The {len(shown)} largest of {len(channels)} channels." if len(channels) > len(shown) else ""
    without = "" if mix_before else " The day before has no policies to compare with."
    return Section(
        "policies", title, (text + beyond + without,),
        (Picture("Share of each channel", bars("Share of each channel", shown, series, share), look),
         Picture("Users for whom the channel is the best", bars(
             "Users for whom the channel is the best", sorted(best, key=lambda c: (-best[c], c))[:_MOST_CHANNELS],
             [Series("", sorted(best.values(), reverse=True)[:_MOST_CHANNELS])], count),
             "Look for more than one channel: users differ, and so should the advice.")),
        (grid,),
        (Headline("Share of users who get the most frequent advice", "", leader, "share", look),),
    )  # fmt: skip


def _mix(day: Day, ds: str) -> dict[str, float]:
    """Mean probability of each channel over the users."""
    return dict(day.query(
        CHANNEL_POLICIES,
        """SELECT entry.key, sum(entry.value) / (SELECT count(*) FROM "partition")
           FROM (SELECT unnest(map_entries(policy)) AS entry FROM "partition") GROUP BY entry.key ORDER BY entry.key""",
        ds,
    ))  # fmt: skip


def _logged(day: Day) -> dict[str, tuple[float, ...]]:
    """Of each channel: its share of the day's exposures of known channel, and the share of these with each gain."""
    if not day.holds(EXPOSURES):
        return {}
    gains = ", ".join(f'avg("{g}")' for g in day.dataset.gain_names)
    rows = day.query(
        EXPOSURES,
        f"""SELECT channel, count(*) / sum(count(*)) OVER (), {gains} FROM "partition" WHERE channel IS NOT NULL
            GROUP BY channel ORDER BY channel""",
    )
    return {channel: tuple(figures) for channel, *figures in rows}


def ranks_section(day: Day) -> Section:
    """Predicted rewards from the best user to the last, and the top ten."""
    title = "Reward ranks: whom to spend on first"
    if not day.holds(USER_REWARD_RANKS) or not (users := day.manifests[USER_REWARD_RANKS].rows):
        return Section("ranks", title, ("No reward ranks of this day: it was not scored (yet).",))
    gains = day.dataset.gain_names
    predicted = ", ".join(f'"predicted_{g}"' for g in gains)
    top = day.query(
        USER_REWARD_RANKS,
        f"""SELECT rank, CAST(user_id AS varchar), predicted_reward, {predicted} FROM "partition"
            ORDER BY rank LIMIT {_TOP}""",
    )
    ranks = sorted({max(1, round(users * k / _POINTS)) for k in range(_POINTS + 1)})
    curve = day.query(
        USER_REWARD_RANKS,
        f'SELECT rank, predicted_reward FROM "partition" WHERE rank IN ({", ".join(map(str, ranks))}) ORDER BY rank',
    )
    mean = day.query(USER_REWARD_RANKS, 'SELECT avg(predicted_reward) FROM "partition"')[0][0]
    look = "Look for a steep start: a flat line would mean that the model cannot tell users apart."
    return Section(
        "ranks", title,
        (f"All {users:,} users, ordered by the reward that the model predicts for their next exposure, a mean of the "
         "predicted gains by their weights (0 to 1).",),
        (Picture("Predicted reward from the first rank to the last",
                 lines("Predicted reward by rank", [f"{rank:,}" for rank, _ in curve],
                       [Series("", [reward for _, reward in curve])], number, from_zero=True), look),
         Picture(f"The first {len(top)} users",
                 bars(f"Predicted reward of the first {len(top)} users", [f"{r}. user {user}" for r, user, *_ in top],
                      [Series("", [row[2] for row in top])], number),
                 "Look for values near 1, or all alike: both point at a fault, not at good customers.")),
        (Grid(f"The first {len(top)} users", ("Rank", "User", "Predicted reward", *gains),
              tuple((f"{r:,}", user, f"{reward:.4f}", *(f"{p:.2%}" for p in ps)) for r, user, reward, *ps in top),
              frozenset({0, *range(2, 3 + len(gains))}), folded=True),),
        (Headline("Predicted reward, mean over the users", "", mean, "number",
                  "Look for a sudden step: the model or its inputs have changed."),),
    )  # fmt: skip


def budget_section(day: Day) -> Section:
    """What the day's budget buys."""
    title = "Budget"
    manifest = day.manifests.get(BUDGET_PLAN)
    if manifest is None:
        return Section("budget", title, ("No budget plan of this day.",))
    unit = "of the log's unit of cost" if day.dataset.has_costs else "exposures (the log has no costs)"
    budget, spend = int(manifest.inputs["budget_nano"]) / _NANO, manifest.counts["spend_nano"] / _NANO
    if not manifest.rows:
        return Section("budget", title, ("There is no user to spend a budget on.",))
    if not budget:
        return Section("budget", title, ("The day has no budget: the plan names every user's best channel, and selects "
                                         "nobody. Give one with the nightly run's parameter `budget`.",))  # fmt: skip
    rows = day.query(
        BUDGET_PLAN,
        """SELECT channel, count(*), sum(expected_cost_nano) / 1e9, sum(expected_reward) FROM "partition"
           WHERE selected GROUP BY channel ORDER BY count(*) DESC, channel""",
    )
    reward, bound = sum(r[3] for r in rows), day.query(BUDGET_PLAN, 'SELECT max(reward_bound) FROM "partition"')
    certain = f" No plan within the budget could be expected to bring more than {number(bound[0][0])}."
    top = rows[:_MOST_CHANNELS]
    return Section(
        "budget", title,
        (f"A budget of {number(budget)} {unit} buys {manifest.counts['selected']:,} of {manifest.rows:,} users, at an "
         f"expected cost of {number(spend)} and an expected reward of {number(reward)} in all.{certain}",),
        (Picture("Budget and planned spend", bars("Budget and planned spend", ["budget", "planned spend"],
                                                  [Series("", [budget, spend])], number),
                 "Look for a spend far below the budget: nothing more is worth buying, or costs are wrong."),
         Picture("Users bought by channel", bars("Users bought by channel", [r[0] for r in top],
                                                 [Series("", [r[1] for r in top])], count),
                 "Look for a mix that you would defend: all money in one channel deserves a question.")),
        (Grid("Channels bought", ("Channel", "Users", "Expected cost", "Expected reward"),
              tuple((c, f"{n:,}", number(cost), number(r)) for c, n, cost, r in rows), frozenset({1, 2, 3}),
              folded=len(rows) > _MOST_CHANNELS),),
        (Headline("Share of the budget that is planned to be spent", "", spend / budget, "share",
                  "Look for a drop: too few pairs of user and channel are worth their cost."),),
    )  # fmt: skip
