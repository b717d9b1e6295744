"""What a report leaves beside its page for the index: the day's verdict and headline figures."""

import json
from dataclasses import asdict, dataclass

from jobs.reports.content import Headline
from lakehouse.lake import Lake
from lakehouse.staging import write_to_lake


@dataclass(frozen=True, slots=True)
class Summary:
    """A day in short."""

    ds: str
    kind: str  # pass, warn, fail or part
    headline: str
    figures: tuple[Headline, ...]


def store(lake: Lake, dataset: str, summary: Summary) -> None:
    """Keep it as LAKE/reports/dataset=.../<ds>.json, whole or not at all."""
    text = json.dumps(asdict(summary), indent=1, ensure_ascii=False) + "\n"
    write_to_lake(lake, lake.reports(dataset) / f"{summary.ds}.json", text)


def stored_summaries(lake: Lake, dataset: str) -> list[Summary]:
    """Of every day that has a report, oldest first."""
    found = []
    for path in sorted(lake.reports(dataset).glob("*.json")):
        raw = json.loads(path.read_text())
        figures = tuple(Headline(**figure) for figure in raw.pop("figures"))
        found.append(Summary(figures=figures, **raw))
    return found
