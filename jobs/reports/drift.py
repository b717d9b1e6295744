"""The section about drift: how far the day is from the day before and from the days that the model learned from."""

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
from jobs.reports.content import Cell, Grid, Headline, Picture, Section, badge_of
from jobs.reports.day import Day
from jobs.reports.svg import Series, bars, lines, share
from jobs.reports.words import short_days
from lakehouse.manifest import read_manifest
from schemas.days import day_plus

# Three lines are what a picture bears.
KINDS: Mapping[str, tuple[str, ...]] = {
    "what came in": (FEATURES, CHANNELS, VOCABULARY),
    "how people answered": (REWARDS,),
    "what the model said": (CALIBRATION, POLICY),
}
_WORST = 8
_LISTED = 40
_CUT = 3.0  # a figure is drawn up to so many times its limit
_DAYS = 30


def drift_section(day: Day) -> Section:
    """Every figure as a share of its own limit, so that all can stand in one picture."""
    drift = day.drift
    if drift is None:
        return Section("drift", "Drift", ("Drift was not measured for this day (python -m jobs.measure_drift does "
                                          "it, and the report's DAG before this page).",))  # fmt: skip
    worst = sorted(drift.figures, key=lambda f: -_ratio(f))
    names = [f"{f.name}{f' vs {f.against}' if f.against else ''}" for f in worst]
    text: list[str | Cell] = [
        "Drift is how far this day is from the day before and from the days that the model learned from. Every figure "
        "has a limit of its own, learned from earlier days where there are enough; here each stands as a share of it: "
        "0 % is no difference. "
        + f"Of {len(drift.figures)} figures, {len(drift.beyond) or 'none'} {'is' if len(drift.beyond) < 2 else 'are'} "
        "beyond its limit.",
    ]  # fmt: skip
    if drift.reference:
        text.append(f"Training period: {drift.reference[0]} to {drift.reference[-1]}.")
    if outdated := _outdated(day, drift):
        text.append(f"Measured before {', '.join(outdated)} changed: measure it again (python -m jobs.measure_drift).")
    text.append(Cell("All figures (JSON)", f"../../drift/dataset={day.dataset.name}/{day.ds}.json"))
    pictures = []
    if worst:
        shown = [min(_ratio(f), _CUT) if _ratio(f) < math.inf else math.nan for f in worst[:_WORST]]
        pictures.append(
            Picture("The figures nearest to their limits",
                    bars("Share of the limit", names[:_WORST], [Series("", shown)], share, limit=1.0),
                    f"Look for bars beyond the line: the limit. Bars end at {_CUT:.0%}.")
        )  # fmt: skip
    pictures += _trend(day)
    grid = Grid(
        f"The {min(len(worst), _LISTED)} figures nearest to their limits, in words",
        ("What", "Against", "Value", "Limit", "", "In words, and why it matters"),
        tuple(
            (Cell(f.name, code=True), f.against or "itself", f"{f.value:.4g}", f"{f.limit:.4g} ({f.limit_from})",
             Cell("within" if f.holds else f.severity, badge=badge_of(f.holds, f.severity)), f"{f.sentence} {f.why}")
            for f in worst[:_LISTED]
        ),
        frozenset({2}), folded=True,
    )  # fmt: skip
    headlines = [
        Headline("Worst drift, share of its limit", name, value, "share",
                 "Look for lines beyond 100 %, and for those that creep up to it.", True)
        for name, value in _worst_by_kind(drift.figures).items()
    ]  # fmt: skip
    return Section("drift", "Drift", tuple(text), tuple(pictures), (grid,), tuple(headlines))


def _trend(day: Day) -> list[Picture]:
    """The worst figure of each kind over the latest days that were measured."""
    days = [day_plus(day.ds, k) for k in range(1 - _DAYS, 1)]
    drifts = [d for ds in days if (d := stored_drift(day.lake, day.dataset.name, ds))]
    if len(drifts) < 2:
        return []
    found = [_worst_by_kind(d.figures) for d in drifts]
    series = [Series(kind, [f.get(kind) for f in found]) for kind in KINDS if any(kind in f for f in found)]
    return [
        Picture("The worst figure of each kind, day by day",
                lines("Worst share of the limit", short_days([d.ds for d in drifts]), series, share, from_zero=True),
                "Look for a line that climbs: 100 % is the limit.")
    ]  # fmt: skip


def _worst_by_kind(figures: Sequence[DriftFigure]) -> dict[str, float]:
    """The largest share of its limit among the figures of each kind."""
    found = {kind: [min(_ratio(f), _CUT) for f in figures if f.about in about] for kind, about in KINDS.items()}
    return {kind: max(ratios) for kind, ratios in found.items() if ratios}


def _ratio(figure: DriftFigure) -> float:
    """How much of the way from no difference to the limit the value has gone.

    Infinite where the value is no number, or where there is no such way and the limit was passed.
    """
    if math.isnan(figure.value):
        return math.inf
    allowed = figure.limit - figure.same
    if allowed <= 0:
        return 0.0 if figure.holds else math.inf
    return (figure.value - figure.same) / allowed


def _outdated(day: Day, drift: Drift) -> list[str]:
    """The partitions that are no longer as they were when the drift was measured."""
    return [
        path for path, fingerprint in drift.inputs.items()
        if path.startswith(tuple(f"{table}/" for table in day.manifests))
        and path.endswith(f"ds={day.ds}")
        and ((found := read_manifest(day.lake.root / path)) is None or found.fingerprint != fingerprint)
    ]  # fmt: skip
