"""The section about test-then-train: how well the champion predicts each day before it is trained on it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jobs.reports.charts import lines
from jobs.reports.content import HtmlTable, Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import number, share, short_days
from jobs.reports.svg import Series
from schemas.days import day_plus
from schemas.tables import PREQUENTIAL, prequential

_TITLE = "The model on days that it had not seen"
_INTRODUCTION = (
    "Before a day is used for training, the champion predicts it: an honest test, every day. Log loss measures how far "
    "the predictions are from the outcomes (lower is better). It is compared with the log loss of a prediction that "
    "knows only the day's own rates."
)
_SEVERAL_METHODS = (
    "Each method has its own champion. A method on candidates also predicts a user's first exposure, so the labels of "
    "two methods are not exactly the same."
)
_LOOK_AT_LOSS = "Look for the model below the mean rate. Above it, the model has learned nothing useful for that day."
_TREND_DAYS = 30
_COLUMNS = ("head", "model_version", "labels", "logloss", "base_logloss", "auc", "rate", "predicted_rate")

Row = Mapping[str, Any]


def prequential_section(view: DayView) -> Section:
    """The figures of the day and of the days before it, for the champion of each method. Needs `prequential`."""
    days = [day_plus(view.day, k) for k in range(1 - _TREND_DAYS, 1)]
    rows_per_day = {day: rows for day in days if (rows := _tested(view, day))}
    pictures = tuple(_pictures(view, rows_per_day)) if rows_per_day else ()
    if view.day not in rows_per_day:
        text = (
            "This day was not tested: no model had been trained before it, it has no label, or the run stopped before "
            "the test."
        )
        return Section("prequential", _TITLE, (_INTRODUCTION, text), pictures)
    rows = rows_per_day[view.day]
    text = [_INTRODUCTION, *([_SEVERAL_METHODS] if len(_models(rows)) > 1 else [])]
    rows_by_model = {model: [row for row in rows if row["model"] == model] for model in _models(rows)}
    for model_rows in rows_by_model.values():
        if new_channels := prequential.labels_of_new_channels({row["head"]: row["labels"] for row in model_rows}):
            text.append(f"{new_channels:,} labels have a channel that the model does not know.")
    tables = tuple(_table(view.day, model_rows) for model_rows in rows_by_model.values())
    return Section("prequential", _TITLE, tuple(text), pictures, tables, tuple(_trend_figures(rows)))


def _tested(view: DayView, day: str) -> list[Row]:
    """The rows of a day by model, the channel first; none if it was not tested."""
    manifest = view.lake[PREQUENTIAL, view.dataset, day].manifest
    if manifest is None or not manifest.rows:
        return []
    rows = [
        dict(zip(_COLUMNS, row, strict=True))
        for row in view.query(PREQUENTIAL, f'SELECT {", ".join(_COLUMNS)} FROM "partition"', day)
    ]
    order = prequential.heads(view.dataset)
    for row in rows:
        row["model"] = row["model_version"].partition("/")[0]
    return sorted(rows, key=lambda row: (row["model"], order.index(row["head"])))


def _models(rows: Iterable[Row]) -> list[str]:
    """The registered models of these rows."""
    return sorted({row["model"] for row in rows})


def _table(day: str, rows: list[Row]) -> HtmlTable:
    return HtmlTable(
        f"Figures of {day}, predicted by {rows[0]['model_version']}",
        ("Predicted", "Labels", "Log loss", "Log loss of the mean rate", "AUC", "Observed rate", "Predicted rate"),
        tuple((row["head"], f"{row['labels']:,}", _figure(row["logloss"]), _figure(row["base_logloss"]),
               _figure(row["auc"]), _rate(row["rate"]), _rate(row["predicted_rate"])) for row in rows),
        frozenset(range(1, 7)),
    )  # fmt: skip


def _trend_figures(rows: list[Row]) -> Iterator[TrendFigure]:
    has_several_models = len(_models(rows)) > 1
    for row in rows:
        if row["base_logloss"]:
            yield TrendFigure(
                f"Log loss relative to the mean rate: {row['head']}", row["model"] if has_several_models else "",
                row["logloss"] / row["base_logloss"], "share",
                "Look for values below 100 %: the model is better than the mean rate. If they rise, the model is "
                "outdated.",
            )  # fmt: skip
        if row["rate"] is not None:
            model_suffix = f", {row['model']}" if has_several_models else ""
            for series, value in (("observed", row["rate"]), ("predicted", row["predicted_rate"])):
                yield TrendFigure(
                    f"Share of exposures with {row['head']}", f"{series}{model_suffix}", value, "share",
                    "Look for two lines close together: the model is calibrated.", True,
                )  # fmt: skip


def _pictures(view: DayView, rows_per_day: Mapping[str, list[Row]]) -> Iterator[Picture]:
    """For each head its log loss, and of a gain its rates, with a line for each model that predicts it."""
    all_rows = [row for rows in rows_per_day.values() for row in rows]
    has_several_models = len(_models(all_rows)) > 1
    by_model = {day: {(row["model"], row["head"]): row for row in rows} for day, rows in rows_per_day.items()}

    def line(model: str, head: str, figure: str, name: str) -> Series:
        return Series(name, [rows.get((model, head), {}).get(figure) for rows in by_model.values()])

    for head in prequential.heads(view.dataset):
        models = _models(row for row in all_rows if row["head"] == head)
        if not models:
            continue
        title = f"Log loss of {head}"
        series = [line(model, head, "logloss", model if has_several_models else "model") for model in models]
        series += [line(model, head, "base_logloss", "mean rate") for model in models[:1]]
        yield Picture(title, lines(title, short_days(list(by_model)), series, number), _LOOK_AT_LOSS)
        if head != prequential.CHANNEL:
            series = [line(model, head, "rate", "observed") for model in models[:1]]
            series += [
                line(model, head, "predicted_rate", model if has_several_models else "predicted") for model in models
            ]
            yield Picture(
                f"Share of exposures with {head}: predicted and observed",
                lines(f"Share with {head}", short_days(list(by_model)), series, share, from_zero=True),
                "Look for lines close together: the predictions are right on average.",
            )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
