"""Small logs in the published raw layouts, row by row."""

import gzip
from collections.abc import Sequence
from pathlib import Path

from schemas.dataset import RawFile, get_dataset

_KUAIRAND_ROW = {
    "user_id": 1, "video_id": 10, "date": 20220422, "hourmin": 1100, "time_ms": 1650597047647, "is_rand": 1, "tab": 1,
}  # fmt: skip
_CRITEO_ROW = {
    "timestamp": 5, "uid": 1, "campaign": 7, "conversion_timestamp": -1, "conversion_id": -1, "click_pos": -1,
    "click_nb": -1, "cost": 0.001, "cpo": 0.2, "time_since_last_click": -1, "cat8": 3,
}  # fmt: skip


def _line(layout: RawFile, values: dict) -> str:
    return layout.separator.join(str(values.get(c.name, "" if c.nullable else 0)) for c in layout.columns)


def header(layout: RawFile) -> str:
    return layout.separator.join(c.name for c in layout.columns)


def kuairand_row(**values) -> str:
    return _line(get_dataset("kuairand").log, _KUAIRAND_ROW | values)


def criteo_row(**values) -> str:
    return _line(get_dataset("criteo").log, _CRITEO_ROW | values)


def write_kuairand(folder: Path, rows: Sequence[str], *, users: Sequence[int] = (1, 2)) -> Path:
    """Videos 10, 11, 12 last 5, 50 and 500 s; video 13 has no duration."""
    folder.mkdir(parents=True, exist_ok=True)
    log, user_file, video_file = (
        get_dataset("kuairand").log, *(lookup.file for lookup in get_dataset("kuairand").lookups)
    )  # fmt: skip
    _write(folder / "log_random_4_22_to_5_08_pure.csv", [header(log), *rows])
    _write(folder / "log_standard_4_08_to_4_21_pure.csv", [header(log)])
    user_rows = [_line(user_file, {"user_id": u, "user_active_degree": "full_active"}) for u in users]
    _write(folder / "user_features_pure.csv", [header(user_file), *user_rows])
    durations = {10: 5000.0, 11: 50000.0, 12: 500000.0, 13: ""}
    video_rows = [_line(video_file, {"video_id": v, "video_duration": d}) for v, d in durations.items()]
    _write(folder / "video_features_basic_pure.csv", [header(video_file), *video_rows])
    return folder


def write_criteo(folder: Path, rows: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join([header(get_dataset("criteo").log), *rows]) + "\n"
    (folder / "criteo_attribution_dataset.tsv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n")
