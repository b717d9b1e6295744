"""Make the data docs again: a small static site over the audit results, which opens without a network.

    python -m jobs.data_docs --dataset kuairand --lake lake

rebuilds LAKE/<dataset>/data_docs/ completely: index.html, and a page for each table and day. An audit
rewrites only the index and the pages of the audited partitions.
"""

from jobs.quality.audit_results import stored_audits
from jobs.reports.data_docs import publish_pages
from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from schemas.errors import UserError, exit_with_one_line


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    audits = stored_audits(lake, dataset)
    if not audits:
        raise UserError(f"no audits of {dataset.name} in {lake.root}: run jobs.audit_table first (make run)")
    print(publish_pages(lake, dataset, audits))


if __name__ == "__main__":
    exit_with_one_line(main)
