"""Sections about the model: how it was trained, and how it judges days that it has not seen."""

import json
from typing import Any

from jobs.reports.content import Cell, Grid, Headline, Picture, Section
from jobs.reports.day import Day
from jobs.reports.model_runs import ModelRun, find_run
from jobs.reports.svg import Series, lines, number, share
from jobs.reports.words import short_days
from schemas.days import day_plus
from schemas.tables import CHANNEL_POLICIES, PREQUENTIAL, PROMOTIONS, prequential, promotions

_DAYS = 30  # of the lines over days


def training_section(day: Day) -> Section:
    """Training curves of the model that scored the day, what the gate said, and figures on unseen users."""
    scored = day.manifests.get(CHANNEL_POLICIES)
    version = scored.inputs.get("model", "") if scored else ""
    run = find_run(day.lake, version) if version else None
    text: list[str | Cell] = []
    pictures: list[Picture] = []
    if not version:
        text.append("This day was not scored, so no model stands behind it.")
    elif run is None:
        text.append(f"The day was scored by {version}, which the lake's MLflow does not know: no curves.")
    else:
        text += _run_text(day, run)
        pictures += _curves(run, day.dataset.gain_names)
    grids = [*_gate(day), *_unseen(day)]
    if promoted := day.manifests.get(PROMOTIONS):
        text.append(
            _decision(day) if promoted.rows else "No model was trained on this day, so none stood for champion."
        )
    return Section("training", "Model and training", tuple(text), tuple(pictures), tuple(grids))


def _run_text(day: Day, run: ModelRun) -> list[str | Cell]:
    days = "1 day" if run.fine_tuned == 1 else f"{run.fine_tuned} days"
    steps = f", then fine-tuned on {days}, one by one" if run.fine_tuned else ""
    text: list[str | Cell] = [
        f"The day was scored by {run.version}: trained from scratch as {run.full_training}{steps}, "
        f"last on {run.trained_through or 'an unknown day'}.",
        f"Its MLflow run is {run.run_id}. To see all parameters and curves, go to the lake's folder "
        "with the project's environment active, run the command below and open the address behind it.",
        Cell(
            "mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri sqlite:///mlflow/mlflow.db",
            code=True,
        ),
        Cell(f"http://127.0.0.1:5000/#/experiments/{run.experiment_id}/runs/{run.run_id}", code=True),
    ]
    lineage = f"mlflow/artifacts/{day.dataset.name}/{run.run_id}/artifacts/model/lineage.json"
    if (day.lake.root / lineage).is_file():
        text.append(Cell("What the model was made from (lineage.json)", f"../../{lineage}"))
    return text


def _curves(run: ModelRun, gains: tuple[str, ...]) -> list[Picture]:
    """The full training, epoch by epoch: the policy, the reward, and all models of an ensemble."""
    epochs = sorted({epoch for values in run.curves.values() for epoch in values})
    if not epochs:
        return []
    labels = [str(epoch) for epoch in epochs]

    def of(figure: str, name: str) -> Series:
        return Series(name, [run.curves.get(figure, {}).get(epoch) for epoch in epochs])

    # The validation loss of the reward is the mean over its heads, and so must be what stands beside it.
    heads = [run.curves[head] for gain in gains if (head := f"train_{gain}") in run.curves]
    trained = [sum(h[e] for h in heads) / len(heads) if heads and all(e in h for h in heads) else None for e in epochs]
    look = ("Look for where the line of unseen users flattens and turns up: from there on the model learns its "
            "training users by heart. The best epoch is kept.")  # fmt: skip
    pictures = [
        Picture(f"Training of {run.full_training}: loss of the channel by epoch",
                lines("Loss of the channel by epoch", labels,
                      [of("train_policy", "training users"), of("valid_policy", "unseen users")]), look),
        Picture(f"Training of {run.full_training}: loss of the reward by epoch",
                lines("Loss of the reward by epoch", labels,
                      [Series("training users", trained), of("valid_reward", "unseen users")]), look),
    ]  # fmt: skip
    members = [f"monitor{of_member}" for of_member in ("", "_2", "_3", "_4") if f"monitor{of_member}" in run.curves]
    if len(members) > 1:
        pictures.append(
            Picture("All models of the ensemble: loss of unseen users",
                    lines("Loss of unseen users", labels,
                          [of(figure, f"model {k}") for k, figure in enumerate(members, start=1)]),
                    "Look for one model far above the others: its answers spoil the average."))  # fmt: skip
    return pictures


_GATE = '"check", passed, reason, champion_logloss, challenger_logloss, difference, margin'


def _gate(day: Day) -> list[Grid]:
    """Every check of the promotion gate."""
    if not day.holds(PROMOTIONS) or not day.manifests[PROMOTIONS].rows:
        return []
    rows = day.query(PROMOTIONS, f'SELECT {_GATE} FROM "partition" ORDER BY "check"')
    return [
        Grid("The promotion gate: the day's model beside the champion",
             ("Check", "", "Log loss now", "Log loss new", "Difference", "Borne", "Reason"),
             tuple((check, Cell("passed" if passed else "failed", badge="pass" if passed else "warn"),
                    *(_figure(v) for v in figures), reason)
                   for check, passed, reason, *figures in rows),
             frozenset({2, 3, 4, 5}))
    ]  # fmt: skip


def _decision(day: Day) -> str:
    challenger, champion, decision = day.query(
        PROMOTIONS, 'SELECT any_value(challenger), any_value(champion), any_value(decision) FROM "partition"'
    )[0]
    said = "took the place of" if decision == promotions.PROMOTED else "was refused beside"
    return f"The model trained on this day, {challenger}, {said} {champion}."


def _unseen(day: Day) -> list[Grid]:
    """The evaluation on test users, which no training has seen."""
    file = day.lake.metrics(day.dataset)
    if not file.is_file():
        return []
    metrics: dict[str, Any] = json.loads(file.read_text())
    rows = [
        (gain, _figure(found["auc"]), _figure(found["logloss"]), _figure(found["base_logloss"]), share(found["rate"]),
         share(found["rate_top_10pct"]) if "rate_top_10pct" in found else "")
        for gain, found in metrics["reward"].items()
    ]  # fmt: skip
    return [
        Grid(f"{metrics['model_version']} on {metrics['users']:,} users that it has never seen",
             ("Reward", "AUC", "Log loss", "Log loss of the mean rate", "Rate", "Rate among the top 10 %"),
             tuple(rows), frozenset({1, 2, 3, 4, 5}), folded=True)
    ]  # fmt: skip


def prequential_section(day: Day) -> Section:
    """Test, then train: how the champion judged each day before it learned it."""
    title = "The model on days that it had not seen"
    what = (
        "Before a day is learned, the champion predicts it: an honest test, every day. Log loss says how surprised "
        "it was (lower is better); beside it stands that of somebody who knows nothing but the day's own rates."
    )
    days = [day_plus(day.ds, k) for k in range(1 - _DAYS, 1)]
    found = {ds: rows for ds in days if (rows := _judged(day, ds))}
    if day.ds not in found:
        none = "This day was not tested: there was no model of an earlier day, no label, or the run stopped before."
        if not found:
            return Section("prequential", title, (what, none))
        return Section("prequential", title, (what, none), tuple(_over_days(day, found)))
    rows = found[day.ds]
    grid = Grid(
        f"Figures of {day.ds}, judged by {rows[0]['model_version']}",
        ("Predicted", "Labels", "Log loss", "Of the mean rate", "AUC", "Observed rate", "Predicted rate"),
        tuple((r["head"], f"{r['labels']:,}", _figure(r["logloss"]), _figure(r["base_logloss"]), _figure(r["auc"]),
               _share(r["rate"]), _share(r["predicted_rate"])) for r in rows),
        frozenset(range(1, 7)),
    )  # fmt: skip
    headlines = []
    for r in rows:
        loss = f"Log loss, as a share of the mean rate's: {r['head']}"
        if r["base_logloss"]:
            headlines.append(
                Headline(
                    loss,
                    "",
                    r["logloss"] / r["base_logloss"],
                    "share",
                    "Look for values below 100 %: the model knows more than the mean rate. A rise: it ages.",
                )
            )
        if r["rate"] is not None:
            for series, value in (("observed", r["rate"]), ("predicted", r["predicted_rate"])):
                headlines.append(
                    Headline(
                        f"Share of exposures with {r['head']}",
                        series,
                        value,
                        "share",
                        "Look for two lines close together: the model is calibrated.",
                        True,
                    )
                )
    return Section("prequential", title, (what,), tuple(_over_days(day, found)), (grid,), tuple(headlines))


def _judged(day: Day, ds: str) -> list[dict[str, Any]]:
    """The rows of a day, the channel first; none where it was not tested."""
    manifest = day.lake[PREQUENTIAL, day.dataset, ds].manifest
    if manifest is None or not manifest.rows:
        return []
    names = ("head", "model_version", "labels", "logloss", "base_logloss", "auc", "rate", "predicted_rate")
    rows = day.query(PREQUENTIAL, f'SELECT {", ".join(names)} FROM "partition"', ds)
    order = (prequential.CHANNEL, *day.dataset.gain_names)
    return sorted((dict(zip(names, row, strict=True)) for row in rows), key=lambda r: order.index(r["head"]))


def _over_days(day: Day, found: dict[str, list[dict[str, Any]]]) -> list[Picture]:
    days = list(found)
    by_head = {ds: {r["head"]: r for r in rows} for ds, rows in found.items()}

    def line(head: str, figure: str, name: str) -> Series:
        return Series(name, [by_head[ds].get(head, {}).get(figure) for ds in days])

    pictures = []
    for head in (prequential.CHANNEL, *day.dataset.gain_names):
        pictures.append(
            Picture(f"Log loss of {head}",
                    lines(f"Log loss of {head}", short_days(days),
                          [line(head, "logloss", "model"), line(head, "base_logloss", "mean rate")], number),
                    "Look for the model below the mean rate; above it, it has learned nothing of use for that day.")
        )  # fmt: skip
        if head != prequential.CHANNEL:
            pictures.append(
                Picture(f"Share of exposures with {head}: predicted and observed",
                        lines(f"Share with {head}", short_days(days),
                              [line(head, "rate", "observed"), line(head, "predicted_rate", "predicted")], share,
                              from_zero=True),
                        "Look for two lines close together: what the model promises comes true."))  # fmt: skip
    return pictures


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
