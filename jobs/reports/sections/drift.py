"""The section about drift: how much the day differs from the day before and from the training period."""

import math
from collections.abc import Mapping, Sequence

from jobs.drift.results import (
    CALIBRATION,
    CHANNELS,
    FEATURES,
    POLICY,
    REWARDS,
    VOCABULARY,
    Drift,
    DriftFigure,
    stored_drift,
)
from jobs.reports.charts import bars, lines
from jobs.reports.content import Cell, HtmlTable, Picture, Section, TrendFigure, badge_of
from jobs.reports.day_view import DayView
from jobs.reports.formats import share, short_days
from jobs.reports.svg import Series
from schemas.days import day_plus

# One line of a picture for each kind; a picture stays readable with three.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "exposures": (FEATURES, CHANNELS, VOCABULARY),
    "rewards": (REWARDS,),
    "predictions": (CALIBRATION, POLICY),
}
_FIGURES_DRAWN = 8
_FIGURES_LISTED = 40
_LARGEST_DRAWN = 3.0  # a larger figure is drawn as this multiple of its limit
_TREND_DAYS = 30


def drift_section(view: DayView) -> Section:
    """Every figure as a share of its limit, so that one picture can show all figures."""
    drift = view.drift
    if drift is None:
        text = (
            "Drift was not measured for this day. The report's DAG measures it before it makes this page; to measure "
            "it by hand, run python -m jobs.measure_drift."
        )
        return Section("drift", "Drift", (text,))
    figures = sorted(drift.figures, key=lambda figure: -_share_of_limit(figure))
    return Section(
        "drift", "Drift", tuple(_text(view, drift)),
        (*([_nearest_to_limits(figures)] if figures else []), *_trend(view)),
        (_figure_table(figures),),
        tuple(
            TrendFigure("Worst drift, share of its limit", kind, value, "share",
                        "Look for lines beyond 100 %, and for lines that slowly get near it.", True)
            for kind, value in _worst_per_kind(drift.figures).items()
        ),
    )  # fmt: skip


def _text(view: DayView, drift: Drift) -> list[str | Cell]:
    exceeded = len(drift.exceeded)
    text: list[str | Cell] = [
        "Drift is how much this day differs from the day before and from the days that the model learned from. Every "
        "figure has its own limit, which is learned from earlier days if there are enough. Here each figure is shown "
        "as a share of its limit: 0 % means no difference. "
        + f"Of {len(drift.figures)} figures, {exceeded or 'none'} {'exceeds' if exceeded == 1 else 'exceed'} "
        f"{'its' if exceeded == 1 else 'their'} limit."
    ]
    if drift.reference:
        text.append(f"Training period: {drift.reference[0]} to {drift.reference[-1]}.")
    if outdated := _outdated_inputs(view, drift):
        text.append(f"Measured before {', '.join(outdated)} changed: measure it again (python -m jobs.measure_drift).")
    text.append(Cell("All figures (JSON)", f"../drift/{view.day}.json"))
    return text


def _nearest_to_limits(figures: Sequence[DriftFigure]) -> Picture:
    names = [f"{f.name}{f' vs {f.against}' if f.against else ''}" for f in figures[:_FIGURES_DRAWN]]
    shares = [_share_of_limit(f) for f in figures[:_FIGURES_DRAWN]]
    drawn = [min(value, _LARGEST_DRAWN) if value < math.inf else math.nan for value in shares]
    return Picture(
        "The figures nearest to their limits",
        bars("Share of the limit", names, [Series("", drawn)], share, limit=1.0),
        f"Look for bars beyond the line, which is the limit. Bars end at {_LARGEST_DRAWN:.0%}.",
    )


def _figure_table(figures: Sequence[DriftFigure]) -> HtmlTable:
    return HtmlTable(
        f"The {min(len(figures), _FIGURES_LISTED)} figures nearest to their limits, in words",
        ("What", "Against", "Value", "Limit", "", "In words, and why it matters"),
        tuple(
            (Cell(f.name, code=True), f.against or "itself", f"{f.value:.4g}", f"{f.limit:.4g} ({f.limit_from})",
             Cell("within" if f.is_within_limit else f.severity, badge=badge_of(f.is_within_limit, f.severity)),
             f"{f.sentence} {f.why}")
            for f in figures[:_FIGURES_LISTED]
        ),
        frozenset({2}), folded=True,
    )  # fmt: skip


def _trend(view: DayView) -> list[Picture]:
    """The worst figure of each kind over the latest days, if at least two of them were measured."""
    days = [day_plus(view.day, k) for k in range(1 - _TREND_DAYS, 1)]
    drifts = [drift for day in days if (drift := stored_drift(view.lake, view.dataset, day))]
    if len(drifts) < 2:
        return []
    worst = [_worst_per_kind(drift.figures) for drift in drifts]
    series = [Series(kind, [w.get(kind) for w in worst]) for kind in _KINDS if any(kind in w for w in worst)]
    picture = lines("Worst share of the limit", short_days([d.ds for d in drifts]), series, share, from_zero=True)
    return [
        Picture("The worst figure of each kind, day by day", picture, "Look for a line that rises: 100 % is the limit.")
    ]


def _worst_per_kind(figures: Sequence[DriftFigure]) -> dict[str, float]:
    """The largest share of its limit among the figures of each kind."""
    shares = {
        kind: [min(_share_of_limit(f), _LARGEST_DRAWN) for f in figures if f.about in topics]
        for kind, topics in _KINDS.items()
    }
    return {kind: max(values) for kind, values in shares.items() if values}


def _share_of_limit(figure: DriftFigure) -> float:
    """How far the value is on the way from no difference (0) to its limit (1).

    Infinite if the value is NaN, or if the limit allows no difference and was exceeded.
    """
    if math.isnan(figure.value):
        return math.inf
    allowed = figure.limit - figure.same
    if allowed <= 0:
        return 0.0 if figure.is_within_limit else math.inf
    return (figure.value - figure.same) / allowed


def _outdated_inputs(view: DayView, drift: Drift) -> list[str]:
    """The day's partitions whose content has changed since the drift was measured."""
    outdated = []
    for key, fingerprint in drift.inputs.items():
        partition = view.lake.partition(key)
        if partition.day == view.day and view.has(partition.table):
            manifest = partition.manifest
            if manifest is None or manifest.fingerprint != fingerprint:
                outdated.append(key)
    return outdated
