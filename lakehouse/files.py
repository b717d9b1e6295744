"""Write a single file of the lake, whole or not at all."""

from pathlib import Path

from lakehouse.paths import Lake
from lakehouse.publishing import make_durable, staging_folder


def write_whole(lake: Lake, path: Path, text: str) -> None:
    """Replace a file in one step; one that already holds this text stays untouched.

    Goes through the lake's staging, so that a kill leaves nothing beside the file.
    """
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    with staging_folder(lake) as staging:
        staged = staging / path.name
        staged.write_bytes(content)
        make_durable(staged)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(path)
