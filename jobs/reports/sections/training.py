"""The section about the model that scored the day: its training, the promotion gate, and figures on unseen users."""

import os

from jobs.reports.charts import lines
from jobs.reports.content import Cell, HtmlTable, Picture, Section
from jobs.reports.day_view import DayView
from jobs.reports.formats import share
from jobs.reports.model_runs import ModelRun, find_run
from jobs.reports.svg import Series
from lakehouse.lake import IF_METRICS_DAMAGED, Lake
from lakehouse.models.decisions import lineage_file
from lakehouse.storage.files import json_object, read_stored
from schemas.dataset import Dataset
from schemas.tables import PROMOTIONS, promotions
from schemas.tables.registry import TABLES_FROM_SCORING

_LOOK_AT_LOSSES = (
    "Look for where the line of unseen users flattens and then rises: from there on the model memorises its training "
    "users. The best epoch is kept."
)
_GATE = '"check", passed, reason, champion_logloss, challenger_logloss, difference, margin'
_MODEL = "split_part(challenger, '/', 1)"  # the registered model
_ENSEMBLE_SUFFIXES = ("", "_2", "_3", "_4")


def training_section(view: DayView) -> Section:
    """Needs the manifests of the tables of scoring, the decisions about models, `promotions` and the lake's metrics."""
    versions = _scored_by(view)
    text: list[str | Cell] = []
    pictures: list[Picture] = []
    if not versions:
        text.append("This day was not scored, so there is no model to show.")
    for version in versions:
        run = find_run(view.lake, view.dataset.name, version)
        if run is None:
            text.append(f"The day was scored by {version}. The lake has no decision about it, so there are no curves.")
        else:
            text += _run_text(view, run)
            pictures += _curves(run, view.dataset.gain_names)
    if promoted := view.manifests.get(PROMOTIONS):
        text += _decisions(view) if promoted.rows else ["No model was trained on this day, so the champion stays."]
        text += _due_training(view) if promoted.rows else []
    tables = (*_gates(view), *unseen_users(view.lake, view.dataset))
    return Section("training", "Model and training", tuple(text), tuple(pictures), tables)


def _scored_by(view: DayView) -> list[str]:
    """The versions that scored the day: of each method at most one."""
    manifests = [view.manifests[name] for name in TABLES_FROM_SCORING if view.has(name)]
    return list(dict.fromkeys(manifest.inputs["model"] for manifest in manifests if manifest.inputs.get("model")))


def _run_text(view: DayView, run: ModelRun) -> list[str | Cell]:
    days = "1 day" if run.fine_tuned == 1 else f"{run.fine_tuned} days"
    steps = f", then fine-tuned on {days}, one by one" if run.fine_tuned else ""
    text: list[str | Cell] = [
        f"The day was scored by {run.version}: trained from scratch as {run.full_training}{steps}, "
        f"last on {run.trained_through or 'an unknown day'}.",
        *_mlflow_address(run),
    ]
    lineage = lineage_file(view.lake, view.dataset, run.version)
    if lineage.is_file():
        text.append(
            Cell("The inputs of the model", os.path.relpath(str(lineage), str(view.lake.reports(view.dataset))))
        )
    return text


def _mlflow_address(run: ModelRun) -> list[str | Cell]:
    """Where people see the run: on the MLflow server, or on one that they start for the database."""
    database = os.environ.get("MLFLOW_TRACKING_URI", "")
    page = f"#/experiments/{run.experiment_id}/runs/{run.run_id}"
    run_line = f"Its MLflow run is {run.run_id}, with all parameters and curves."
    if database.startswith("http"):
        return [run_line, Cell(f"{database.rstrip('/')}/{page}", code=True)]
    # The address of another database may have a password.
    database = '"$MLFLOW_TRACKING_URI"' if database else "sqlite:///mlflow/mlflow.db"
    server = f"mlflow server --host 127.0.0.1 --port 5000 --workers 1 --backend-store-uri {database}"
    return [
        f"{run_line} To see them, go to the lake's folder with the project's environment active, run this command, and "
        "open the address below it.",
        Cell(server, code=True),
        Cell(f"http://127.0.0.1:5000/{page}", code=True),
    ]


def _curves(run: ModelRun, gains: tuple[str, ...]) -> list[Picture]:
    """The full training by epoch: the losses of policy and reward, and of all models of an ensemble."""
    epochs = sorted({epoch for values in run.curves.values() for epoch in values})
    if not epochs:
        return []
    labels = [str(epoch) for epoch in epochs]

    def curve(figure: str, name: str) -> Series:
        return Series(name, [run.curves.get(figure, {}).get(epoch) for epoch in epochs])

    # The validation loss of the reward is the mean over the gains. So must be the training loss that it is compared to.
    losses = [run.curves[figure] for gain in gains if (figure := f"train_{gain}") in run.curves]
    is_complete = [bool(losses) and all(epoch in loss for loss in losses) for epoch in epochs]
    trained = [
        sum(loss[epoch] for loss in losses) / len(losses) if complete else None
        for epoch, complete in zip(epochs, is_complete, strict=True)
    ]
    series_by_name = {
        "channel": [curve("train_policy", "training users"), curve("valid_policy", "unseen users")],
        "reward": [Series("training users", trained), curve("valid_reward", "unseen users")],
        "tasks": [curve("train_loss", "training users"), curve("valid_loss", "unseen users")],
    }
    pictures = [
        Picture(f"Training of {run.full_training}: loss of the {name} by epoch",
                lines(f"Loss of the {name} by epoch", labels, series), _LOOK_AT_LOSSES)
        for name, series in series_by_name.items() if any(value is not None for line in series for value in line.values)
    ]  # fmt: skip
    members = [f"monitor{suffix}" for suffix in _ENSEMBLE_SUFFIXES if f"monitor{suffix}" in run.curves]
    if len(members) > 1:
        series = [curve(figure, f"model {k}") for k, figure in enumerate(members, start=1)]
        pictures.append(
            Picture("All models of the ensemble: loss of unseen users", lines("Loss of unseen users", labels, series),
                    "Look for one model far above the others: its predictions spoil the average."))  # fmt: skip
    return pictures


def _gates(view: DayView) -> list[HtmlTable]:
    """Every check of the promotion gate, in a table for each method; none without checks."""
    if not view.has(PROMOTIONS) or not view.manifests[PROMOTIONS].rows:
        return []
    rows = view.query(PROMOTIONS, f'SELECT {_MODEL}, {_GATE} FROM "partition" ORDER BY {_MODEL}, "check"')
    models = list(dict.fromkeys(row[0] for row in rows))
    title = "The promotion gate: the day's model compared with the champion and with the last full training"
    return [
        HtmlTable(
            f"{title} ({model})" if len(models) > 1 else title,
            ("Check", "", "Log loss now", "Log loss new", "Difference", "Allowed", "Reason"),
            tuple((check, Cell("passed" if passed else "failed", badge="pass" if passed else "warn"),
                   *(_figure(value) for value in figures), reason)
                  for row_model, check, passed, reason, *figures in rows if row_model == model),
            frozenset({2, 3, 4, 5}))
        for model in models
    ]  # fmt: skip


def _decisions(view: DayView) -> list[str]:
    """A sentence for each method that had a challenger."""
    decided = view.query(
        PROMOTIONS,
        f"""SELECT any_value(challenger), any_value(champion), any_value(decision) FROM "partition"
            WHERE {promotions.IS_DAILY_CHECK} GROUP BY {_MODEL} ORDER BY {_MODEL}""",
    )
    verbs = {promotions.PROMOTED: "replaced", promotions.REFUSED: "did not replace"}
    return [
        f"The model trained on this day, {challenger}, {verbs[decision]} the champion {champion}."
        for challenger, champion, decision in decided
    ]


def _due_training(view: DayView) -> list[str]:
    """A sentence if the champion is clearly worse than trees that were fitted on the day."""
    failed = view.query(
        PROMOTIONS,
        f"""SELECT reason FROM "partition"
            WHERE NOT passed AND ends_with("check", '{promotions.AGAINST_FRESH_FIT}')
            ORDER BY "check"
        """,
    )
    if not failed:
        return []
    reasons = "; ".join(reason for (reason,) in failed)
    return [f"A full training is due (mtorl_history_{view.dataset.name}): {reasons}."]


def unseen_users(lake: Lake, dataset: Dataset) -> list[HtmlTable]:
    """The evaluation of each method's model on test users, whom no training has seen."""
    return [read_stored(file, metrics_table, IF_METRICS_DAMAGED) for file in lake.metrics_of_all(dataset)]


def metrics_table(text: str) -> HtmlTable:
    """The table of an evaluation in JSON. Raises what json_object raises, KeyError or TypeError for any other text."""
    metrics = json_object(text)
    rows = [
        (gain, _figure(m["auc"]), _figure(m["logloss"]), _figure(m["base_logloss"]), share(m["rate"]),
         share(m["rate_top_10pct"]) if "rate_top_10pct" in m else "")
        for gain, m in metrics["reward"].items()
    ]  # fmt: skip
    return HtmlTable(
        f"{metrics['model_version']} on {metrics['users']:,} users that it has never seen",
        ("Reward", "AUC", "Log loss", "Log loss of the mean rate", "Rate", "Rate among the top 10 %"),
        tuple(rows), frozenset({1, 2, 3, 4, 5}), folded=True,
    )  # fmt: skip


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
