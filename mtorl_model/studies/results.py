"""docs/results.md from what the evaluation and the studies have left in a lake: no number is typed by hand.

python -m mtorl_model.studies.results --lake LAKE --out docs/results.md

Reads, for every dataset of the lake, `metrics/.../metrics.json` (make run), `studies/.../<study>.csv|json|svg` (make
study), `search.*` (make search) and `published.json` (make benchmark-published); what is not there is left out.
Pictures are copied to a folder `pictures` beside the document.
"""

import argparse
import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.lake import Lake
from mtorl_model.evaluation.metrics import top_name
from mtorl_model.evaluation.text import in_brackets, with_interval
from mtorl_model.studies.pictures import headline, in_words
from mtorl_model.studies.published import NAMES
from mtorl_model.studies.variants import REFERENCE, STUDIES
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line

_INTRODUCTION = """# Results

Made by `make results` from files in a lake; every number is in one of them. First fill the lake:

```bash
make run DATASET=criteo RAW=/data/criteo LAKE=lake      # the tables, the champion, and its figures on test users
make study DATASET=criteo LAKE=lake STUDY=ablation      # and departures, steps, lambda, mu; the commands stand below
make results LAKE=lake                                  # this page
```

The protocols and the words are those of [evaluation.md](evaluation.md). Brackets are 95 % intervals over users; they
know nothing of the luck of a training. So every study repeats its reference with other seeds, and **bold** are only
differences whose interval misses 0 and that are larger than any repetition's. There are dozens of differences a study:
one in twenty misses 0 by chance. A finding to act on is worth `FOLDS=5 SEEDS=3`."""


def _metrics(lake: Lake, dataset: str) -> list[str]:
    path = lake.metrics(dataset)
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    lines = [
        "### On users never seen",
        f"The test tenth of the log's users, {found['users']:,} users with {found['labels']:,} labels; champion "
        f"{found['model_version']}, one training; protocol {found['protocol']}. `make run DATASET={dataset} RAW=…`",
    ]
    fitted = found["baselines"]["gradient_boosting_fitted_on_labels"]
    if found["channel"] is None:
        lines.append("The method predicts no channel.")
    elif found["channel"]["predictable"]:
        figures = {"f1_macro": "macro-F1", "accuracy": "accuracy"}
        lines.append(_competitors("channel", figures, found["channel"], found["baselines"]["channel"],
                                  found["model_minus_baseline"]["channel"]))  # fmt: skip
    else:
        lines.append("The channel of this log cannot be predicted: no better than the channels' own shares.")
    for gain, block in found["reward"].items():
        figures = {"auc": "AUC", "logloss": "log loss", top_name(0.1): "rate of the top 10 %",
                   top_name(0.375): "of the top 37.5 %"}  # fmt: skip
        lines.append(_competitors(gain, figures, block, found["baselines"]["reward"][gain],
                                  found["model_minus_baseline"]["reward"][gain]))  # fmt: skip
        lines.append(
            f"{gain}: rate {with_interval(block, 'rate')}; log loss of the base rate "
            f"{with_interval(block, 'base_logloss')}; calibration error {with_interval(block, 'ece')}."
        )
    if fitted:
        lines.append(f"Gradient boosting is fitted on {fitted:,} labels of training users, the model's own inputs.")
    policy = found["policy"]
    if policy["identified"]:
        deterministic = policy["deterministic"]
        fixed = "; ".join(f"always {name} {in_brackets(value)}" for name, value in policy["fixed"].items())
        lines.append(
            f"Value of the recommended channel (doubly robust): {in_brackets(deterministic['dr'])}; the log's own "
            f"{in_brackets(policy['logging'])}, difference {_difference(deterministic['minus_logging'])}; {fixed}; "
            f"difference to the best of these on training users, {policy['best_fixed_channel']}: "
            f"{_difference(deterministic['minus_best_fixed'])}."
        )
    else:
        lines.append(f"Value of the policy: not identified ({policy['why']}).")
    return lines


def _competitors(
    what: str, figures: Mapping[str, str], model: Mapping[str, Any], others: Mapping[str, Any], minus: Mapping[str, Any]
) -> str:
    """A row a competitor, and below each the model's difference to it."""
    rows = [(what, *figures.values()), ("MTORL", *(with_interval(model, name) for name in figures))]
    for other, block in others.items():
        called = other.replace("_", " ")
        rows.append((called, *(with_interval(block, name) if name in block else "" for name in figures)))
        rows.append(
            (f"MTORL minus {called}", *(_difference(minus[other][n]) if n in minus[other] else "" for n in figures))
        )
    return _table(rows)


def _study(folder: Path, name: str, pictures: Path) -> list[str]:
    if not (folder / f"{name}.json").exists():
        return []
    told = json.loads((folder / f"{name}.json").read_text())
    with (folder / f"{name}.csv").open() as file:
        rows = [
            {k: (float(v) if v else None) if k not in ("variant", "figure") else v for k, v in row.items()}
            for row in csv.DictReader(file)
        ]
    names = headline(told, [str(row["figure"]) for row in rows])
    by = {(row["variant"], row["figure"]): row for row in rows}
    variants = list(dict.fromkeys(str(row["variant"]) for row in rows))
    reference = by[REFERENCE, names[0]]["at"]
    called = {v: v for v in variants} | {REFERENCE: "reference" if reference is None else f"reference ({reference:g})"}
    repetitions = told["repetitions"]
    cells = [
        (called[v], *(_cell(by[v, figure], [by[again, figure] for again in repetitions]) for figure in names))
        for v in variants
    ]
    picture = _copied(folder / f"{name}.svg", pictures, told["dataset"])
    return [
        f"### {told['question']}",
        f"{told['users']:,} users, {told['labels']:,} labels; {told['protocol']}. `{told['command']}`",
        f"![{told['question']}]({picture})",
        _table([("", *(in_words(f) for f in names)), *cells]),
    ]


def _cell(row: Mapping[str, Any], repetitions: Sequence[Mapping[str, Any]]) -> str:
    """The reference's own figure; of the others the difference to it, bold where no repetition's is as large."""
    if row["variant"] == REFERENCE:
        return in_brackets(row)
    difference = {"value": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
    by_chance = max(abs(again["difference"] or 0.0) for again in repetitions)
    return _difference(difference, by_chance=by_chance)


def _search(folder: Path, pictures: Path) -> list[str]:
    if not (folder / "search.json").exists():
        return []
    told = json.loads((folder / "search.json").read_text())
    own = told["preset_loss"]
    best = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in told["best"].items())
    picture = _copied(folder / "search.svg", pictures, told["dataset"])
    return [
        "### Which hyper-parameters? (table 4)",
        f"{told['trials']} trials, {told['pruned']} of them pruned; {told['protocol']}. `{told['command']}`",
        f"![Validation loss of the trials, by hyper-parameter]({picture})",
        f"Best: {best}, with a validation loss of {told['best_loss']:.4f}; the preset's own values have "
        f"{'no finished trial' if own is None else f'{own:.4f}'}. One training each: the best of many is in part luck.",
    ]


def _published(folder: Path) -> list[str]:
    if not (folder / "published.json").exists():
        return []
    found = json.loads((folder / "published.json").read_text())
    paper = found["paper"]
    rows = [("", "here", "the paper")]
    rows += [(in_words(f"test {n}"), with_interval(found, n), f"{paper[n]:.4f}" if paper else "-") for n in NAMES]
    return [
        "### The published protocol, which leaks",
        f"{found['share_of_test_steps_also_in_training']:.0%} of the test steps also stand in training windows. "
        f"{found['windows']:,} windows, d = {found['hidden']}, {found['epochs']} epochs, no dropout, the last epoch's "
        f"weights, seed {found['seed']}; brackets are 95 % intervals over the users of the test windows. "
        f"`{found['command']}`",
        _table(rows),
    ]


def _copied(picture: Path, pictures: Path, dataset: str) -> str:
    pictures.mkdir(parents=True, exist_ok=True)
    target = pictures / f"{dataset}_{picture.name}"
    shutil.copyfile(picture, target)
    return f"{pictures.name}/{target.name}"


def _difference(found: Mapping[str, Any], *, by_chance: float = 0.0) -> str:
    """Bold where the interval does not hold 0 and the difference is larger than by_chance."""
    if found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['value']:+.3f}"
    text = f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    stands_out = (found["low"] > 0 or found["high"] < 0) and abs(found["value"]) > by_chance
    return f"**{text}**" if stands_out else text


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def results(lake: Lake, pictures: Path) -> str:
    """The whole document; pictures are copied to that folder. Raises UserError where the lake holds no figures."""
    parts = [_INTRODUCTION]
    found = {p.name.removeprefix("dataset=") for table in ("metrics", "studies") for p in (lake.root / table).glob("*")}
    for name in sorted(found):
        folder = lake.studies(name)
        sections = [
            *_metrics(lake, name),
            *(line for study in STUDIES for line in _study(folder, study, pictures)),
            *_search(folder, pictures),
            *_published(folder),
        ]
        if sections:
            parts += [f"## {get_dataset(name).title}", *sections]
    if len(parts) == 1:
        raise UserError(
            f"no figures in {lake.root}: make run, make study, make search or make benchmark-published first"
        )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    text = results(Lake(args.lake), args.out.parent / "pictures")
    args.out.write_text(text)
    print(args.out)


if __name__ == "__main__":
    exit_with_one_line(main)
