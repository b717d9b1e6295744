"""Publishes partitions whose rows are one text, for tests that publish in several processes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.storage.scratch import work_folder
from schemas.errors import Unreachable


def publish_text(lake: Lake, *parts: str, day: str = "2022-05-01", dataset: str = "shop", **options) -> Manifest:
    """Publish a day of exposures with one file per text, of a hundred rows with the text."""
    with work_folder() as work:
        for k, text in enumerate(parts):
            pq.write_table(pa.table({"text": [text] * 100}), work / f"part-{k}.parquet")
        return lake["exposures", dataset, day].publish(work, inputs={"text": " ".join(parts)}, code="c", **options)


def publish_until_unreachable(location: str, started: Path) -> None:
    """Publish one edition after another of a day, until the store does not answer."""
    edition = 0
    while True:
        try:
            publish_text(Lake.at(location), f"edition {edition}", f"edition {edition}")
        except Unreachable:
            if not edition:  # on a busy machine a server may be slow at first
                continue
            return
        edition += 1
        started.touch()
