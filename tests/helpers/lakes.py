"""Compares lakes by the content of their tables."""

from lakehouse.lake import Lake
from lakehouse.manifest import content_fingerprint, content_sha256, read_manifest


def contents(lake: Lake, *tables: str) -> dict[str, tuple[str, ...]]:
    """Fingerprint and hashes of the files of every partition, by path; of these tables only, if any are named.

    Checks each fingerprint against the files. The hashes are in the order of the file names, because windows are drawn
    by their position in the files and a fingerprint ignores the order of files.
    """
    partitions = {}
    for file in sorted(lake.root.glob("*/dataset=*/ds=*/_manifest.json")):
        partition = file.parent
        if tables and partition.parts[-3] not in tables:
            continue
        manifest = read_manifest(partition)
        assert manifest is not None
        assert manifest.fingerprint == content_fingerprint(partition)
        hashes = (content_sha256(data) for data in sorted(partition.glob("*.parquet")))
        partitions[str(partition.relative_to(lake.root))] = (manifest.fingerprint, *hashes)
    return partitions
