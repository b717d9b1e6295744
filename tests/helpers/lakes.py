"""What two lakes must have in common to be the same."""

from lakehouse.lake import Lake
from lakehouse.manifest import content_fingerprint, content_sha256, read_manifest


def contents(lake: Lake, *tables: str) -> dict[str, tuple[str, ...]]:
    """Of every partition (of these tables, if any are named) its fingerprint, which its files bear out, and the content
    of its files in the order of their names.

    No fingerprint tells the order of files, and yet windows are drawn by their places in them.
    """
    found = {}
    for manifest in sorted(lake.root.glob("*/dataset=*/ds=*/_manifest.json")):
        partition = manifest.parent
        if tables and partition.parts[-3] not in tables:
            continue
        stated = read_manifest(partition)
        assert stated is not None
        assert stated.fingerprint == content_fingerprint(partition)
        files = (content_sha256(file) for file in sorted(partition.glob("*.parquet")))
        found[str(partition.relative_to(lake.root))] = (stated.fingerprint, *files)
    return found
