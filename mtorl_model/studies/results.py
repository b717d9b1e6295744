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

from mtorl_model.benchmark_published import NAMES
from mtorl_model.metrics import top_name
from mtorl_model.studies.pictures import headline, in_words
from mtorl_model.studies.variants import REFERENCE, STUDIES
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.paths import Lake

_INTRODUCTION = """# Results

Made by `make results` from files in a lake; every number is in one of them. First fill the lake:

```bash
make run DATASET=criteo RAW=/data/criteo LAKE=lake      # the tables, the champion, and its figures on test users
make study DATASET=criteo LAKE=lake STUDY=ablation      # and departures, steps, lambda, mu; the commands stand below
make results LAKE=lake                                  # this page
```

The protocols and the words are those of [evaluation.md](evaluation.md). Brackets are 95 % intervals over users. On
samples as small as these a difference whose interval holds 0 is no finding, and neither is one that another seed of
the same setting makes as well: the rows "another seed" show how much that is."""


def _metrics(lake: Lake, dataset: str) -> list[str]:
    path = lake.metrics(dataset)
    if not path.exists():
        return []
    found = json.loads(path.read_text())
    channel, boosting = found["channel"], found["baselines"]
    rows = [("", "MTORL", "gradient boosting", "MTORL minus boosting")]
    if channel["predictable"]:
        rows += [
            (
                f"channel {label}",
                _value(channel, name),
                _value(boosting["channel"]["gradient_boosting"], name),
                _difference(found["model_minus_baseline"]["channel"]["gradient_boosting"][name]),
            )
            for name, label in (("f1_macro", "macro-F1"), ("accuracy", "accuracy"))
        ]
    for gain, block in found["reward"].items():
        other = boosting["reward"][gain]["gradient_boosting"]
        minus = found["model_minus_baseline"]["reward"][gain]["gradient_boosting"]
        for name, label in (("auc", "AUC"), ("logloss", "log loss"), (top_name(0.375), "rate of the top 37.5 %")):
            rows.append((f"{gain} {label}", _value(block, name), _value(other, name), _difference(minus[name])))
    lines = [
        "### On users never seen",
        f"The test tenth of the log's users: {found['users']:,} users, {found['labels']:,} labels, one training of "
        f"preset `small`; protocol {found['protocol']}. `make run DATASET={dataset} RAW=…`",
        _table(rows),
    ]
    if channel["predictable"]:
        copying = boosting["channel"]["copy_previous"]
        lines.append(
            f"Copying the previous channel: macro-F1 {_value(copying, 'f1_macro')}, accuracy "
            f"{_value(copying, 'accuracy')}."
        )
    else:
        lines.append(
            "The channel of this log cannot be predicted (no better than the channels' own shares): an F1 says nothing."
        )
    policy = found["policy"]
    if policy["identified"]:
        deterministic = policy["deterministic"]
        lines.append(
            f"Value of the recommended channel (doubly robust): {_estimate(deterministic['dr'])}; the log's own "
            f"{_estimate(policy['logging'])}; difference {_difference(deterministic['minus_logging'])}; to the best "
            f"fixed channel ({policy['best_fixed_channel']}) {_difference(deterministic['minus_best_fixed'])}."
        )
    else:
        lines.append(f"Value of the policy: not identified ({policy['why']}).")
    return lines


def _study(folder: Path, name: str, pictures: Path) -> list[str]:
    if not (folder / f"{name}.csv").exists():
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
    cells = [(called[v], *(_cell(by[v, figure], is_reference=v == REFERENCE) for figure in names)) for v in variants]
    picture = _copied(folder / f"{name}.svg", pictures, told["dataset"])
    return [
        f"### {told['question']}",
        f"{told['users']:,} users, {told['labels']:,} labels; {told['protocol']}. `{told['command']}`",
        f"![{told['question']}]({picture})",
        _table([("", *(in_words(f) for f in names)), *cells]),
    ]


def _cell(row: Mapping[str, Any], *, is_reference: bool) -> str:
    """The reference's own figure; of the others the difference to it."""
    if is_reference:
        return _estimate(row)
    return _difference({"value": row["difference"], "low": row["difference_low"], "high": row["difference_high"]})


def _search(folder: Path, pictures: Path) -> list[str]:
    if not (folder / "search.json").exists():
        return []
    told = json.loads((folder / "search.json").read_text())
    best = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in told["best"].items())
    with (folder / "search.csv").open() as file:
        first = next(csv.DictReader(file))
    picture = _copied(folder / "search.svg", pictures, told["dataset"])
    return [
        "### Which hyper-parameters? (table 4)",
        f"{told['trials']} trials, {told['pruned']} of them pruned; {told['protocol']}. `{told['command']}`",
        f"![Validation loss of the trials, by hyper-parameter]({picture})",
        f"Best: {best}, with a validation loss of {told['best_loss']:.4f}; the preset's own values (the first trial) "
        f"have {float(first['validation_loss']):.4f}. One training each: the best of many is in part luck.",
    ]


def _published(folder: Path) -> list[str]:
    if not (folder / "published.json").exists():
        return []
    found = json.loads((folder / "published.json").read_text())
    paper = found["paper"]
    rows = [("", "here", "the paper")]
    rows += [(in_words(f"test {n}"), f"{found[n]:.4f}", f"{paper[n]:.4f}" if paper else "-") for n in NAMES]
    return [
        "### The published protocol, which leaks",
        f"{found['share_of_test_steps_also_in_training']:.0%} of the test steps also stand in training windows. "
        f"{found['windows']:,} windows, d = {found['hidden']}, {found['epochs']} epochs, one seed, no interval. "
        f"`{found['command']}`",
        _table(rows),
    ]


def _copied(picture: Path, pictures: Path, dataset: str) -> str:
    pictures.mkdir(parents=True, exist_ok=True)
    target = pictures / f"{dataset}_{picture.name}"
    shutil.copyfile(picture, target)
    return f"{pictures.name}/{target.name}"


def _value(block: Mapping[str, Any], name: str) -> str:
    low, high = block["intervals"][name] or (None, None)
    return _estimate({"value": block[name], "low": low, "high": high})


def _estimate(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return "-"
    return f"{found['value']:.3f}" + ("" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]")


def _difference(found: Mapping[str, Any]) -> str:
    """Bold where the interval does not hold 0."""
    if found["value"] is None:
        return "-"
    if found["low"] is None:
        return f"{found['value']:+.3f}"
    text = f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"**{text}**" if found["low"] > 0 or found["high"] < 0 else text


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
