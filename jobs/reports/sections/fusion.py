"""The section about fusion weights: the powers and biases that rank a user's candidates."""

from jobs.reports.charts import bars
from jobs.reports.content import HtmlTable, Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import number
from jobs.reports.svg import Series
from schemas.tables import FUSION_WEIGHTS
from schemas.tables.candidates.fusion_weights import bias_column, power_column

_TITLE = "Fusion: the weights of each objective in a user's ranking"


def fusion_section(view: DayView) -> Section:
    """The powers of the users and their spread. Needs all columns of `fusion_weights`."""
    if not view.has(FUSION_WEIGHTS) or not (users := view.manifests[FUSION_WEIGHTS].rows):
        return Section("fusion", _TITLE, ("This day has no fusion weights: no method of fusion has scored it.",))
    names = [objective.name for objective in view.dataset.objectives]
    columns = ", ".join(
        f'avg("{column}"), quantile_cont("{column}", 0.05), quantile_cont("{column}", 0.95)'
        for name in names
        for column in (power_column(name), bias_column(name))
    )
    figures = view.query(FUSION_WEIGHTS, f'SELECT {columns} FROM "partition"')[0]
    rows = [(name, *figures[6 * k : 6 * k + 6]) for k, name in enumerate(names)]
    version = view.manifests[FUSION_WEIGHTS].inputs.get("model", "")
    text = (
        f"For each of {users:,} users, {version} chooses how much every objective counts when candidates are ranked: "
        "the score is the product of (prediction + bias) to its power. An objective with a power near 0 does not "
        "count. The table has the mean over the users, and the range without the lowest and the highest 5 %."
    )
    table = HtmlTable(
        "Powers and biases of the users", ("Objective", "Power", "5 %", "95 %", "Bias", "5 %", "95 %"),
        tuple((name, *(f"{value:.3f}" for value in values)) for name, *values in rows), frozenset(range(1, 7)),
    )  # fmt: skip
    picture = bars("Mean power of each objective", names, [Series("", [row[1] for row in rows])], number)
    return Section(
        "fusion", _TITLE, (text,),
        (Picture("Mean power of each objective", picture, "Look for a power that reaches 0 or 2."),),
        (table,),
        tuple(
            TrendFigure("Power, mean over the users", name, mean, "number",
                        "Look for a sudden step: a day moves a power by .15 at most.")
            for name, mean, *_ in rows
        ),
    )  # fmt: skip
