"""The section about reward ranks: the predicted reward from the best user to the last."""

from jobs.reports.charts import bars, lines
from jobs.reports.content import HtmlTable, Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import number
from jobs.reports.svg import Series
from schemas.tables import USER_REWARD_RANKS

_TITLE = "Reward ranks: the order in which to spend on users"
_TOP_USERS = 10
_CURVE_POINTS = 40


def ranks_section(view: DayView) -> Section:
    """The curve of predicted rewards by rank, and the top users. Needs all columns of `user_reward_ranks`."""
    if not view.has(USER_REWARD_RANKS) or not (users := view.manifests[USER_REWARD_RANKS].rows):
        return Section("ranks", _TITLE, ("This day has no reward ranks: it was not scored yet.",))
    gains = view.dataset.gain_names
    predicted = ", ".join(f'"predicted_{g}"' for g in gains)
    top = view.query(
        USER_REWARD_RANKS,
        f"""SELECT rank, CAST(user_id AS varchar), predicted_reward, {predicted} FROM "partition"
            ORDER BY rank LIMIT {_TOP_USERS}""",
    )
    mean = view.query(USER_REWARD_RANKS, 'SELECT avg(predicted_reward) FROM "partition"')[0][0]
    top_bars = bars(
        f"Predicted reward of the first {len(top)} users", [f"{rank}. user {user}" for rank, user, *_ in top],
        [Series("", [row[2] for row in top])], number,
    )  # fmt: skip
    top_table = HtmlTable(
        f"The first {len(top)} users", ("Rank", "User", "Predicted reward", *gains),
        tuple((f"{rank:,}", user, f"{reward:.4f}", *(f"{rate:.2%}" for rate in rates))
              for rank, user, reward, *rates in top),
        frozenset({0, *range(2, 3 + len(gains))}), folded=True,
    )  # fmt: skip
    return Section(
        "ranks", _TITLE,
        (f"All {users:,} users, ordered by the reward that the model predicts for their next exposure: the mean of the "
         "predicted gains, weighted by the gains' weights (0 to 1).",),
        (_reward_by_rank(view, users),
         Picture(f"The first {len(top)} users", top_bars,
                 "Look for values near 1, or for equal values: both point to a fault, not to good customers.")),
        (top_table,),
        (TrendFigure("Predicted reward, mean over the users", "", mean, "number",
                     "Look for a sudden step: the model or its inputs have changed."),),
    )  # fmt: skip


def _reward_by_rank(view: DayView, users: int) -> Picture:
    ranks = sorted({max(1, round(users * k / _CURVE_POINTS)) for k in range(_CURVE_POINTS + 1)})
    curve = view.query(
        USER_REWARD_RANKS,
        f'SELECT rank, predicted_reward FROM "partition" WHERE rank IN ({", ".join(map(str, ranks))}) ORDER BY rank',
    )
    return Picture(
        "Predicted reward from the first rank to the last",
        lines("Predicted reward by rank", [f"{rank:,}" for rank, _ in curve],
              [Series("", [reward for _, reward in curve])], number, from_zero=True),
        "Look for a steep start. A flat line would mean that the model sees no difference between users.",
    )  # fmt: skip
