"""The comparison of methods as tables of docs/results.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lakehouse.storage.files import json_object, read_stored
from mtorl_model.evaluation.text import in_brackets
from mtorl_model.studies.baselines.spaces import CHOICES, REFERENCE
from mtorl_model.studies.pictures import draw_protocols

_RANDOM_CHANNELS = "The log's channels were drawn at random and cannot be predicted: ignore their F1 and accuracy."
_HEADLINE = ("channel f1_macro", "channel accuracy")


def unseen_users(result: Mapping[str, Any]) -> list[str]:
    """The section of baselines.json. Methods differ in the channel, or in the first gain if channels were random."""
    cells = {(row["method"], row["figure"]): row for row in result["rows"]}
    gains = [figure for figure in dict.fromkeys(row["figure"] for row in result["rows"]) if figure.endswith(" auc")]
    figures = [*_HEADLINE, *gains]
    was_random = result["value"]["identified"]
    compared = gains[0] if was_random and gains else figures[0]
    rows = [["", *figures, f"{compared} minus {REFERENCE}"]]
    for method in result["settings"]:
        row = [method, *(in_brackets(cells[method, name]) if (method, name) in cells else "-" for name in figures)]
        difference = cells.get((method, compared), {}).get("difference")
        rows.append([*row, _signed(difference) if difference else ""])
    return [
        "### All methods of the paper's table 2, on users never seen",
        f"{result['users']:,} users, {result['labels']:,} labels; {result['protocol']}. {result['interval']}. "
        f"A dash: the method does not predict it. `{result['command']}`",
        *([_RANDOM_CHANNELS] if was_random else []),
        _table(rows),
        *_values(result["value"]),
    ]


def _values(value: Mapping[str, Any]) -> list[str]:
    if not value["identified"]:
        return [f"Value of the methods' channels: not identified ({value['why']})."]
    rows = [["policy", "estimator", "gain an exposure", "minus the log's own"]]
    rows += [
        [row["policy"], row["estimator"], in_brackets(row), _signed(row["minus_log"]) if "minus_log" in row else ""]
        if "estimator" in row
        else [row["policy"], "-", row["why"], ""]
        for row in value["rows"]
    ]
    heading = f"Value of the methods' channels, {value['labels']:,} labels of {value['users']:,} users: {value['why']}."
    return [heading, _table(rows)]


def equal_budget(result: Mapping[str, Any]) -> list[str]:
    """The section of replay.json."""
    first, *_ = gains = result["gains"]
    rows = [["", "matched exposures", *(f"{gain} an exposure" for gain in gains), f"{first} minus {REFERENCE}"]]
    for row in result["rows"]:
        cells = [in_brackets(row["gains"][gain]) for gain in gains]
        difference = "" if row["strategy"] == REFERENCE else _signed(row["difference"][first])
        rows.append([row["strategy"], f"{row['exposures']:.0f}", *cells, difference])
    return [
        "### All methods of the paper's table 3, at equal budget on random exposures",
        f"{result['users']:,} {result['protocol']}. {result['interval']}. `{result['command']}`",
        _table(rows),
    ]


def published(folder: Path, pictures: Path, advice: str) -> list[str]:
    """The section of all published_<method>.json; empty without one. Next to it the figures on users never seen.

    The gap between the protocols is drawn into the folder pictures. Raises UserError, which ends in the advice, if a
    file is damaged.
    """
    files = {name: folder / f"published_{name}.json" for name in CHOICES}
    files[REFERENCE] = folder / "published.json"
    results = {name: read_stored(file, _published, advice) for name, file in files.items() if file.exists()}
    if not results.keys() - {REFERENCE}:
        return []
    on_unseen = folder / "baselines.json"
    unseen = read_stored(on_unseen, _unseen_f1, advice) if on_unseen.exists() else {}
    rows = [["", "published protocol", "the paper", "users never seen", "gap"]]
    for name, result in results.items():
        gap = [f"{unseen[name]:.4f}", f"{result.f1_macro - unseen[name]:+.4f}"] if name in unseen else ["-", "-"]
        rows.append([name, result.figure, result.paper_figure, *gap])
    first = next(iter(results.values()))
    gaps = [
        (name, (result.f1_macro, result.low, result.high), unseen[name])
        for name, result in results.items()
        if name in unseen
    ]
    return [
        "### All methods under the published protocol, which leaks",
        f"Macro-F1 of the channel. {first.share_in_training:.0%} of the test steps are also in "
        f"training windows, so a method is the better the more it memorises. The figures on users never seen are those "
        f"of the table above. `{first.command}` and METHOD=",
        _table(rows),
        *([_picture(gaps, pictures, first.dataset)] if gaps else []),
    ]


def _picture(gaps: Sequence[tuple[str, tuple[float, float, float], float]], pictures: Path, dataset: str) -> str:
    """Draw the gap of each method between the protocols; the line that shows the picture."""
    pictures.mkdir(parents=True, exist_ok=True)
    file = pictures / f"{dataset}_protocols.svg"
    draw_protocols(gaps, file)
    return f"![macro-F1 under both protocols]({pictures.name}/{file.name})"


class _Published(NamedTuple):
    """A method under the published protocol: its macro-F1 with low and high, and that of the paper as text."""

    f1_macro: float
    low: float
    high: float
    paper_figure: str
    share_in_training: float
    dataset: str
    command: str

    @property
    def figure(self) -> str:
        return f"{self.f1_macro:.4f} [{self.low:.4f}, {self.high:.4f}]"


def _published(text: str) -> _Published:
    result = json_object(text)
    low, high = map(float, result["intervals"]["f1_macro"])
    return _Published(
        float(result["f1_macro"]),
        low,
        high,
        f"{result['paper']['f1_macro']:.4f}" if result["paper"] else "-",
        float(result["share_of_test_steps_also_in_training"]),
        str(result["dataset"]),
        str(result["command"]),
    )


def _unseen_f1(text: str) -> dict[str, float]:
    return {row["method"]: row["value"] for row in json_object(text)["rows"] if row["figure"] == _HEADLINE[0]}


def _signed(difference: Mapping[str, float | None]) -> str:
    value, low, high = (difference[name] for name in ("value", "low", "high"))
    interval = "" if low is None else f" [{low:+.4f}, {high:+.4f}]"
    return "-" if value is None else f"{value:+.4f}{interval}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
