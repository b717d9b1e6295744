"""A short hash of the source code that built a partition or a model."""

import hashlib
from functools import cache
from pathlib import Path


@cache  # a process keeps the code that it has loaded
def code_version(*packages: str) -> str:
    """Twelve hex digits over the source files of these top-level packages; the packages that all share always count."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parent.parent
    for package in sorted({"schemas", "lakehouse", "features", *packages}):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
