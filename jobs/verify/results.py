"""Checks the results that are not tables: audits, drift, summaries, metrics, the raw index, the files for consumers."""

from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.drift.results import IF_DRIFT_DAMAGED, Drift
from jobs.quality.audit_results import Audit
from jobs.raw.index import stored_index
from jobs.reports.sections.training import metrics_table
from jobs.reports.summaries import IF_SUMMARY_DAMAGED, read_summary
from jobs.verify.findings import Findings
from lakehouse.lake import IF_AUDIT_DAMAGED, IF_METRICS_DAMAGED, Lake, Partition
from lakehouse.storage.files import json_object, read_stored
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.registry import TABLES_FOR_CONSUMERS

_IF_LINEAGE_DAMAGED = "put it back from a backup; the day's page and the query for the origin of a row read it"
_IF_EXPORT_DAMAGED = "delete it; the next daily run exports it again"


def check_results(lake: Lake, dataset: Dataset, findings: Findings) -> None:
    """Add the faults of all stored results of a dataset."""
    champion = lake.table("champion", dataset)
    kinds = (
        ("audits", lake.audits(dataset).glob("*/*.json"), Audit.from_json, IF_AUDIT_DAMAGED),
        ("drifts", lake.drift(dataset).glob("*.json"), Drift.from_json, IF_DRIFT_DAMAGED),
        ("summaries", lake.reports(dataset).glob("*.json"), read_summary, IF_SUMMARY_DAMAGED),
        ("metrics", lake.metrics_of_all(dataset), metrics_table, IF_METRICS_DAMAGED),
        ("lineages of models", lake.table("model_lineage", dataset).glob("*.json"), json_object, _IF_LINEAGE_DAMAGED),
        ("specs of the champion", champion.glob("feature_spec.json"), FeatureSpec.from_json, _IF_EXPORT_DAMAGED),
    )
    for name, files, read, advice in kinds:
        for file in sorted(files):
            findings.check(name, partial(read_stored, file, read, advice))
    if lake.raw_index(dataset).is_file():
        findings.check("raw index", partial(stored_index, lake, dataset))
    for table in TABLES_FOR_CONSUMERS:
        for file in sorted((lake.consumer_files(dataset) / table).glob("ds=*/*.parquet")):
            partition = lake[table, dataset, file.parent.name.removeprefix("ds=")]
            findings.check("files for consumers", partial(_read_consumer_file, partition))


def _read_consumer_file(partition: Partition) -> None:
    """Raises UserError if the rows of the file cannot be read, or have changed since they were written."""
    file = partition.consumer_file
    try:
        with file.open("rb") as stream, pq.ParquetFile(stream, page_checksum_verification=True) as opened:
            for _ in opened.iter_batches():
                pass
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{file} is damaged ({str(error).splitlines()[0][:100]}): delete it, and audit the day again (python -m "
            f"jobs.audit_table --dataset {partition.dataset} --table {partition.table} --from {partition.day} "
            f"--to {partition.day} --new)"
        ) from error
