"""Check that the files of a lake are those that its logs name; exit status 1 if something is missing, cut or altered.

    python -m jobs.verify --dataset kuairand --lake lake [--repair]

Reads every data file of every table and compares it with the content hash in its name, the manifests, the feature
specs, and the stored results: audits, drift, summaries, metrics, the raw index, the files for consumers. A line for
each fault comes with its remedy. --repair takes the partitions with damaged files out of their tables, so that the
next runs build them again; nothing else is changed.
"""

import sys

from jobs.verify.findings import Findings
from jobs.verify.results import check_results
from jobs.verify.tables import check_tables
from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.storage.delta_table import Replaced, take_out
from schemas.errors import Busy, UserError, exit_with_one_line

EXIT_DAMAGED = 1
_BYTES = "bytes"


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--repair", action="store_true", help="take damaged partitions out of their tables")
    args = parser.parse_args()
    dataset, lake, findings = dataset_of(args), lake_of(args), Findings()
    damaged = check_tables(lake, dataset, findings)
    check_results(lake, dataset, findings)
    if not findings.counts:
        raise UserError(f"{dataset.name} has no tables in {lake.root}: name another lake with LAKE=")
    for line in findings.damage:
        print(f"damaged: {line}")
    if args.repair:
        for folder, values in damaged.items():
            try:
                take_out(folder, values)
            except Replaced as error:
                raise Busy(f"another run has published days of {folder} since they were read: run again") from error
            print(f"taken out of {folder}: {', '.join(values)}")
    print(f"{dataset.name}: {len(findings.damage)} damaged of {counted(findings)}")
    if findings.damage:
        sys.exit(EXIT_DAMAGED)


def counted(findings: Findings) -> str:
    """The counts in words: 13 tables, 1,200 files (2.0 MB), 150 partitions, ..."""
    size = f" ({findings.counts[_BYTES] / 1e6:,.1f} MB)"
    return ", ".join(
        f"{number:,} {name}{size if name == 'files' else ''}"
        for name, number in findings.counts.items()
        if name != _BYTES
    )


if __name__ == "__main__":
    exit_with_one_line(main)
