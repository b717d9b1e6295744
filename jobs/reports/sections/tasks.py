"""The section about task predictions: the chance of each task at every user's next exposure."""

from jobs.reports.charts import lines
from jobs.reports.content import HtmlTable, Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import share
from jobs.reports.svg import Series
from schemas.tables import EXPOSURES, TASK_PREDICTIONS
from schemas.tables.candidates.task_predictions import score_names

_TITLE = "Tasks: the chances of the next exposure"
_TOP_USERS = 10
_CURVE_POINTS = 40


def tasks_section(view: DayView) -> Section:
    """The chances by rank, their means, the day's rates, and the top users. Needs `task_predictions`."""
    if not view.has(TASK_PREDICTIONS) or not (users := view.manifests[TASK_PREDICTIONS].rows):
        text = "This day has no task predictions: no method on candidates has scored it."
        return Section("tasks", _TITLE, (text,))
    scores = score_names(view.dataset)
    columns = ", ".join(f'avg("predicted_{name}")' for name in scores)
    means = dict(zip(scores, view.query(TASK_PREDICTIONS, f'SELECT {columns} FROM "partition"')[0], strict=True))
    version = view.manifests[TASK_PREDICTIONS].inputs.get("model", "")
    text = (
        f"For each of {users:,} users, {version} predicts what the usual offer of the day would bring next: the mean "
        "over candidates drawn from the day's exposures, the same ones for every user. The product is the chance of "
        "all tasks together, as if they were independent. The table also has the ranks by each of them."
    )
    return Section(
        "tasks", _TITLE, (text,), (_chance_by_rank(view, scores, users),),
        (_means_table(view, means), _top_table(view, scores)),
        tuple(
            TrendFigure("Chance of a task, mean over the users", name, mean, "share",
                        "Look for a sudden step: the model or its inputs have changed.")
            for name, mean in means.items()
        ),
    )  # fmt: skip


def _chance_by_rank(view: DayView, scores: tuple[str, ...], users: int) -> Picture:
    ranks = sorted({max(1, round(users * k / _CURVE_POINTS)) for k in range(_CURVE_POINTS + 1)})
    chosen = ", ".join(map(str, ranks))

    def curve(name: str) -> list[float]:
        rows = view.query(
            TASK_PREDICTIONS,
            f'SELECT "predicted_{name}" FROM "partition" WHERE "rank_{name}" IN ({chosen}) ORDER BY "rank_{name}"',
        )
        return [chance for (chance,) in rows]

    title = "Chance from the first rank to the last"
    series = [Series(name, curve(name)) for name in scores]
    picture = lines(title, [f"{rank:,}" for rank in ranks], series, share, from_zero=True)
    return Picture(title, picture, "Look for a steep start. A flat line would mean that all users look alike.")


def _means_table(view: DayView, means: dict[str, float]) -> HtmlTable:
    """The mean chance of each task, and its rate among the day's exposures."""
    rates = _observed(view)
    return HtmlTable(
        "Mean chance of each task", ("Task", "Predicted for the next exposure", "Observed on the day"),
        tuple((name, share(mean), share(rates[name]) if name in rates else "") for name, mean in means.items()),
        frozenset({1, 2}),
    )  # fmt: skip


def _observed(view: DayView) -> dict[str, float]:
    """The rate of each task among the day's exposures."""
    tasks = view.dataset.tasks
    if not view.has(EXPOSURES) or not view.manifests[EXPOSURES].rows:
        return {}
    products = (" * ".join(f'"{gain}"' for gain in gains) for gains in tasks.values())
    rates = view.query(EXPOSURES, f'SELECT {", ".join(f"avg({product})" for product in products)} FROM "partition"')[0]
    return dict(zip(tasks, rates, strict=True))


def _top_table(view: DayView, scores: tuple[str, ...]) -> HtmlTable:
    """The first users by the last score: the product, if there are several tasks."""
    columns = ", ".join(f'"predicted_{name}"' for name in scores)
    ranked_score = scores[-1]
    top = view.query(
        TASK_PREDICTIONS,
        f"""SELECT "rank_{ranked_score}", CAST(user_id AS varchar), {columns} FROM "partition"
            ORDER BY "rank_{ranked_score}" LIMIT {_TOP_USERS}""",
    )
    return HtmlTable(
        f"The first {len(top)} users by {ranked_score}", ("Rank", "User", *scores),
        tuple((f"{rank:,}", user, *(f"{chance:.2%}" for chance in chances)) for rank, user, *chances in top),
        frozenset({0, *range(2, 2 + len(scores))}), folded=True,
    )  # fmt: skip
