"""Writes docs/results.md from the files of the evaluation and the studies in a lake: no number is typed by hand.

python -m mtorl_model.studies.results --lake LAKE --out docs/results.md

Reads, for every dataset of the lake, `metrics/.../metrics*.json` (make run), `studies/.../<study>.csv|json|svg`,
`rmtl_<protocol>.json`, `fusion.json`, `baselines.json` and `replay.json` (make study), `search.*` (make search) and
`published*.json` (make benchmark-published). If a file is missing, its section of the present document remains.
Pictures are copied to the folder `pictures` next to the document.
"""

import argparse
import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lakehouse.arguments import add_lake
from lakehouse.lake import IF_METRICS_DAMAGED, Lake
from lakehouse.storage.files import json_object, read_stored
from mtorl_model.data.candidates.parts import PROTOCOLS
from mtorl_model.evaluation.metrics import top_name
from mtorl_model.evaluation.text import in_brackets, with_interval
from mtorl_model.methods.unified_rl.chain.objective_models import BOOSTING
from mtorl_model.studies.baselines.tables import equal_budget, published, unseen_users
from mtorl_model.studies.multitask.tables import USER_FOLDS, as_markdown
from mtorl_model.studies.pictures import display_name, headline
from mtorl_model.studies.position_scores import SCORES
from mtorl_model.studies.variants import EMBEDDINGS, REFERENCE, STUDIES
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line

_Lines = Callable[[dict[str, Any]], list[str]]  # of a stored result in JSON
_IF_DAMAGED = "delete it, and run the study again (make study)"
_INTRODUCTION = """# Results

`make results` writes this page from files in a lake, and every number is in one of these files. Sections for which the
lake has no files stay as another lake has left them; to start over, delete the page. First fill the lake:

```bash
make run DATASET=criteo RAW=/data/criteo LAKE=lake      # the tables, the champion, and its figures on test users
make study DATASET=criteo LAKE=lake STUDY=ablation      # and departures, steps, lambda, mu; see the commands below
make results LAKE=lake                                  # this page
```

Protocols and terms are those of [evaluation.md](evaluation.md). Brackets are 95 % intervals over users; they do not
contain the randomness of a training. So every study repeats its reference with other seeds. A difference is **bold**
only if its interval excludes 0 and it is larger than the difference of every repetition. A study has dozens of
differences, and one in twenty intervals excludes 0 by chance: before you act on a finding, run its study again with
`FOLDS=5 SEEDS=3`."""


def _section(file: Path, lines: _Lines, advice: str = _IF_DAMAGED) -> list[str]:
    """The lines about a stored result; none without the file. Raises UserError if it lacks what the lines show."""
    return read_stored(file, lambda text: lines(json_object(text)), advice) if file.exists() else []


def _metrics(metrics: Mapping[str, Any], dataset: str) -> list[str]:
    baselines, differences = metrics["baselines"], metrics["model_minus_baseline"]
    method = metrics["model_version"].partition("_")[0]
    name = method.upper()
    lines = [
        "### On users never seen" + (f": {name}" if method != "mtorl" else ""),
        f"The test tenth of the log's users, {metrics['users']:,} users with {metrics['labels']:,} labels; champion "
        f"{metrics['model_version']}, one training; protocol {metrics['protocol']}. "
        f"`make run DATASET={dataset} RAW=…{f' METHOD={method}' if method != 'mtorl' else ''}`",
    ]
    channel = metrics.get("channel")
    if channel is None:
        lines.append("This method does not predict the channel.")
    elif channel["predictable"]:
        figures = {"f1_macro": "macro-F1", "accuracy": "accuracy"}
        lines.append(_comparison("channel", name, figures, channel, baselines["channel"], differences["channel"]))
    else:
        lines.append("The channel of this log cannot be predicted: no better than the channels' own shares.")
    for gain, block in metrics["reward"].items():
        figures = {
            "auc": "AUC",
            "logloss": "log loss",
            top_name(0.1): "rate of the top 10 %",
            top_name(0.375): "of the top 37.5 %",
        } | ({"s_logloss": "s-logloss"} if "s_logloss" in block else {})
        lines.append(_comparison(gain, name, figures, block, baselines["reward"][gain], differences["reward"][gain]))
        lines.append(
            f"{gain}: rate {with_interval(block, 'rate')}; log loss of the base rate "
            f"{with_interval(block, 'base_logloss')}; calibration error {with_interval(block, 'ece')}."
        )
    if labels := baselines["gradient_boosting_fitted_on_labels"]:
        lines.append(f"Gradient boosting is fitted on {labels:,} labels of training users, the model's own inputs.")
    return [*lines, _policy(metrics["policy"])]


def _policy(policy: Mapping[str, Any]) -> str:
    if not policy["identified"]:
        return f"Value of the policy: not identified ({policy['why']})."
    deterministic = policy["deterministic"]
    fixed = "; ".join(f"always {name} {in_brackets(value)}" for name, value in policy["fixed"].items())
    bases = "; ".join(
        f"by {basis} {in_brackets(estimates['dr'])}, "
        f"minus the best constant {_difference(estimates['minus_best_fixed'])}"
        for basis, estimates in policy["bases"].items()
    )
    return (
        f"Channels are recommended by {policy['basis']} ({bases}). "
        f"Value of the recommended channel (doubly robust): {in_brackets(deterministic['dr'])}; the log's own "
        f"{in_brackets(policy['logging'])}, difference {_difference(deterministic['minus_logging'])}; {fixed}; "
        f"difference to the best of these on training users, {policy['best_fixed_channel']}: "
        f"{_difference(deterministic['minus_best_fixed'])}."
    )


def _comparison(
    title: str,
    method: str,
    figures: Mapping[str, str],
    model: Mapping[str, Any],
    baselines: Mapping[str, Any],
    differences: Mapping[str, Any],
) -> str:
    """A row for the model, one for each baseline, and below each baseline the model's difference to it."""
    rows = [(title, *figures.values()), (method, *(with_interval(model, name) for name in figures))]
    for baseline, block in baselines.items():
        display = baseline.replace("_", " ")
        minus = differences[baseline]
        rows.append((display, *(with_interval(block, name) if name in block else "" for name in figures)))
        rows.append((f"{method} minus {display}", *(_difference(minus[n]) if n in minus else "" for n in figures)))
    return _table(rows)


def _study(protocol: Mapping[str, Any], folder: Path, name: str, pictures: Path) -> list[str]:
    with (folder / f"{name}.csv").open() as file:
        rows = [
            {k: (float(v) if v else None) if k not in ("variant", "figure") else v for k, v in row.items()}
            for row in csv.DictReader(file)
        ]
    figures = headline(protocol, [str(row["figure"]) for row in rows])
    row_of = {(row["variant"], row["figure"]): row for row in rows}
    variants = list(dict.fromkeys(str(row["variant"]) for row in rows))
    axis_value = row_of[REFERENCE, figures[0]]["at"]
    reference_name = "reference" if axis_value is None else f"reference ({axis_value:g})"
    cells = [
        (
            reference_name if variant == REFERENCE else variant,
            *(
                _cell(row_of[variant, figure], [row_of[name, figure] for name in protocol["repetitions"]])
                for figure in figures
            ),
        )
        for variant in variants
    ]
    picture = _copied(folder / f"{name}.svg", pictures, protocol["dataset"])
    return [
        f"### {protocol['question']}",
        f"{protocol['users']:,} users, {protocol['labels']:,} labels; {protocol['protocol']}. `{protocol['command']}`",
        f"![{protocol['question']}]({picture})",
        _table([("", *(display_name(figure) for figure in figures)), *cells]),
    ]


def _cell(row: Mapping[str, Any], repetitions: Sequence[Mapping[str, Any]]) -> str:
    """The figure of the reference; for other variants the difference to it, bold if it exceeds all repetitions."""
    if row["variant"] == REFERENCE:
        return in_brackets(row)
    difference = {"value": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
    by_chance = max(abs(repetition["difference"] or 0.0) for repetition in repetitions)
    return _difference(difference, by_chance=by_chance)


def _search(search: Mapping[str, Any], folder: Path, pictures: Path) -> list[str]:
    preset_loss = search["preset_loss"]
    best = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in search["best"].items())
    picture = _copied(folder / "search.svg", pictures, search["dataset"])
    return [
        "### Which hyper-parameters? (table 4)",
        f"{search['trials']} trials, {search['pruned']} of them pruned; {search['protocol']}. `{search['command']}`",
        f"![Validation loss of the trials, by hyper-parameter]({picture})",
        f"Best: {best}, with a validation loss of {search['best_loss']:.4f}; the preset's own values have "
        f"{'no finished trial' if preset_loss is None else f'{preset_loss:.4f}'}. Every trial is one training, so the "
        "best of many is in part luck.",
    ]


def _published(leaking: Mapping[str, Any]) -> list[str]:
    paper = leaking["paper"]
    rows = [("", "here", "the paper")]
    rows += [
        (display_name(f"test {name}"), with_interval(leaking, name), f"{paper[name]:.4f}" if paper else "-")
        for name in SCORES
    ]
    return [
        "### The published protocol, which leaks",
        f"{leaking['share_of_test_steps_also_in_training']:.0%} of the test steps are also in training windows. "
        f"{leaking['windows']:,} windows, d = {leaking['hidden']}, {leaking['epochs']} epochs, no dropout, the "
        f"last epoch's weights, seed {leaking['seed']}; brackets are 95 % intervals over the users of the test "
        f"windows. `{leaking['command']}`",
        _table(rows),
    ]


def _rmtl(folder: Path) -> list[str]:
    lines = []
    titles = {protocol: f"table 1 of its paper, protocol {protocol}" for protocol in PROTOCOLS}
    for protocol, title in (titles | {USER_FOLDS: "the champion on users of all splits"}).items():
        text = _section(folder / f"rmtl_{protocol}.json", as_markdown)
        lines += [f"### RMTL: {title}", *text] if text else []
    return lines


def _fusion(study: Mapping[str, Any]) -> list[str]:
    cells = {(row["variant"], row["figure"]): row for row in study["rows"]}
    figures = [figure for figure in dict.fromkeys(row["figure"] for row in study["rows"]) if figure != "mtf_gauc"]
    rows = [("", "MTF-GAUC", "minus static weights", *figures)]
    for variant in dict.fromkeys(row["variant"] for row in study["rows"]):
        headline_row = cells[variant, "mtf_gauc"]
        minus = "" if variant == "static weights" else _difference(headline_row["minus_static"], digits=4)
        gauc_cells = (in_brackets(cells[variant, figure]) for figure in figures)
        rows.append((variant.replace("_", " "), in_brackets(headline_row), minus, *gauc_cells))
    measured = study["users"]["mtf_gauc"]
    weights = ", ".join(f"{name} {weight:g}" for name, weight in study["weights"].items())
    off_policy = study["off_policy"]
    predictor = study.get("predictor", BOOSTING)
    title = "### UnifiedRL: how well a fused score ranks the exposures of a user"
    return [
        title if predictor == BOOSTING else f"{title}, with predictions of {predictor}",
        f"{measured['measured']:,} users with {study['labels']:,} exposures, {measured['left_out']:,} more users have "
        f"equal labels only; days {study['days'][0]} to {study['days'][1]}; {study['protocol']}; {study['seeds']} "
        f"training(s). Weights of the reward: {weights}. "
        f"`{study['command']}`",
        _table(rows),
        f"Value of the policy: {'' if off_policy['identified'] else 'not identified: '}{off_policy['why']}.",
    ]


def _copied(picture: Path, pictures: Path, dataset: str) -> str:
    pictures.mkdir(parents=True, exist_ok=True)
    target = pictures / f"{dataset}_{picture.name}"
    target.write_bytes(picture.read_bytes())
    return f"{pictures.name}/{target.name}"


def _difference(difference: Mapping[str, Any], *, by_chance: float = 0.0, digits: int = 3) -> str:
    """Bold if the interval excludes 0 and the difference is larger than by_chance; "-" if it does not exist."""
    value, low, high = (difference[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    if low is None:
        return f"{value:+.{digits}f}"
    text = f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    is_finding = (low > 0 or high < 0) and abs(value) > by_chance
    return f"**{text}**" if is_finding else text


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def results(lake: Lake, pictures: Path, earlier: str = "") -> str:
    """The text of the document. Pictures are copied to that folder. Raises UserError if the lake has no figures.

    earlier: the present document, whose sections remain if the lake has no figures for them.
    """
    parts = [_INTRODUCTION]
    files = (file for table in ("metrics", "studies") for file in lake.root.glob(f"*/{table}/*"))
    for name in sorted({file.parent.parent.name for file in files}):
        folder = lake.studies(name)
        studies: dict[str, _Lines] = {
            study: partial(_study, folder=folder, name=study, pictures=pictures) for study in (*STUDIES, EMBEDDINGS)
        } | {
            "search": partial(_search, folder=folder, pictures=pictures),
            **{file.stem: _fusion for file in sorted(folder.glob("fusion*.json"))},
            "published": _published,
            "baselines": unseen_users,
            "replay": equal_budget,
        }
        metrics = partial(_metrics, dataset=name)
        sections = [
            *(line for file in lake.metrics_of_all(name) for line in _section(file, metrics, IF_METRICS_DAMAGED)),
            *(line for study, lines in studies.items() for line in _section(folder / f"{study}.json", lines)),
            *published(folder, pictures, _IF_DAMAGED),
            *_rmtl(folder),
        ]
        if sections:
            parts += [f"## {get_dataset(name).title}", *sections]
    if len(parts) == 1:
        raise UserError(
            f"no figures in {lake.root}: make run, make study, make search or make benchmark-published first"
        )
    chapters = _chapters(earlier)
    for title, new_sections in _chapters("\n\n".join(parts)).items():
        chapters[title] = chapters.get(title, {}) | new_sections
    chapters.pop("", None)
    written = (part for title, by_heading in chapters.items() for part in (title, *by_heading.values()))
    return "\n\n".join([_INTRODUCTION, *written]) + "\n"


def _chapters(text: str) -> dict[str, dict[str, str]]:
    """By the heading of a dataset, its sections by their heading. The text before the first dataset has no heading."""
    chapters: dict[str, dict[str, str]] = {}
    for chapter in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        title, *sections = re.split(r"^(?=### )", chapter, flags=re.MULTILINE)
        chapters[title.strip() if title.startswith("## ") else ""] = {
            section.partition("\n")[0]: section.strip() for section in sections
        }
    return chapters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_lake(parser)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    earlier = args.out.read_text() if args.out.exists() else ""
    text = results(Lake(args.lake), args.out.parent / "pictures", earlier)
    args.out.write_text(text)
    print(args.out)


if __name__ == "__main__":
    exit_with_one_line(main)
