"""The summary that a report stores for the index: the day's verdict and trend figures."""

import json
from dataclasses import asdict, dataclass

from jobs.reports.content import TrendFigure
from lakehouse.lake import Lake
from lakehouse.storage.files import read_stored, write_whole
from schemas.dataset import Dataset

IF_SUMMARY_DAMAGED = "delete it, and write the page of that day again (make report)"


@dataclass(frozen=True, slots=True)
class Summary:
    """A day's report in short."""

    ds: str
    kind: str  # pass, warn, fail or part
    headline: str
    figures: tuple[TrendFigure, ...]


def store_summary(lake: Lake, dataset: Dataset, summary: Summary) -> None:
    """Store it as LAKE/<dataset>/reports/<ds>.json, in one step."""
    text = json.dumps(asdict(summary), indent=1, ensure_ascii=False) + "\n"
    write_whole(lake.reports(dataset) / f"{summary.ds}.json", text)


def stored_summaries(lake: Lake, dataset: Dataset) -> list[Summary]:
    """The summary of every day that has a report, oldest first."""
    return [
        read_stored(file, read_summary, IF_SUMMARY_DAMAGED) for file in sorted(lake.reports(dataset).glob("*.json"))
    ]


def read_summary(text: str) -> Summary:
    fields = json.loads(text)
    return Summary(figures=tuple(TrendFigure(**figure) for figure in fields.pop("figures")), **fields)
