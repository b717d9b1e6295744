"""The fair peer does the work of the pipeline: the same exposures, the same inputs of each step, the same windows."""

import numpy as np
import pytest
from user_chunks import user_chunk

from benchmarks.commands import DATASET, module
from benchmarks.inputs.generated_log import generated_log, log_file
from benchmarks.measure import measure
from features.channel_counts import channel_names, dense_counts
from features.columns import to_ints
from features.point_in_time import JOURNEY_POSITION, point_in_time_steps
from features.visibility import STRICTLY_BEFORE
from jobs.history.windows import cut_windows
from jobs.raw.exposures import usable_rows, without_duplicates
from jobs.raw.files import find_raw_files
from jobs.raw.rows import read_rows
from schemas.steps import DEFAULT_STEPS
from schemas.tables.sequences import sequences
from schemas.tables.steps import steps

pl = pytest.importorskip("polars", reason="polars is not installed: .venv/bin/pip install -r requirements-bench.txt")
pytestmark = pytest.mark.slow(1)  # generates a log and reads it
import polars.testing  # noqa: E402

from benchmarks import fair_polars_peer as peer  # noqa: E402

ROWS = 3_000
ORDER = ["user_id", "exposed_at_ms", "exposure_id"]
BY_CHANNEL = [
    f"{period}_{name}_by_channel" for period in ("seen", "new") for name in ("exposures", "click", "conversion")
]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A generated log with equal time stamps, rows that are delivered again, and rows that are refused."""
    file = log_file(generated_log(tmp_path_factory.mktemp("cache"), ROWS, users=150))
    header, *lines = file.read_text().splitlines()
    names = header.split("\t")

    def changed(line: str, **values: object) -> str:
        cells = dict(zip(names, line.split("\t"), strict=True)) | values
        return "\t".join(str(cell) for cell in cells.values())

    unconverted = [line for line in lines if dict(zip(names, line.split("\t"), strict=True))["conversion"] == "0"]
    time = names.index("timestamp")
    lines += [changed(line, campaign=7, click=1) for line in lines[::50]]
    lines += lines[::100]
    lines += [
        changed(line, conversion=1, conversion_id=9, conversion_timestamp=int(line.split("\t")[time]) + 90_000)
        for line in unconverted[::100]
    ]
    lines += [changed(lines[0], **broken) for broken in ({"click": 2}, {"timestamp": -1}, {"attribution": 5})]
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


@pytest.fixture(scope="module")
def exposures(log):
    """The pipeline's exposures by user, time and id."""
    rows = read_rows(DATASET, find_raw_files(DATASET, log.parent))
    unique_rows = without_duplicates(usable_rows(rows, DATASET), DATASET)
    assert ROWS < len(unique_rows) < len(rows) - 60
    return pl.from_arrow(unique_rows).with_columns(pl.col("ds").str.to_date()).sort(ORDER)


@pytest.fixture(scope="module")
def chunk(exposures):
    frame = exposures.with_columns(pl.col("ds").cast(pl.String)).to_pandas()
    return user_chunk(frame, DATASET, DATASET.end_of_day_ms(frame.ds.max()))


@pytest.fixture(scope="module")
def computed(chunk):
    """The pipeline's steps."""
    return point_in_time_steps(chunk, DATASET, STRICTLY_BEFORE).slice(0, len(chunk.user_N))


def require_equal(peer_values: "pl.Series", own_values: "pl.Series") -> None:
    # Polars divides by a constant in another way: the last bit may differ.
    polars.testing.assert_series_equal(
        peer_values, own_values, check_dtypes=False, check_names=False, rel_tol=1e-14, abs_tol=0
    )


def test_exposures_are_those_of_the_pipeline(log, exposures):
    peer_values = peer.exposures(log)
    assert len(peer_values) == len(exposures)
    names = [name for name in exposures.columns if name != "exposure_id"]
    order = ["user_id", "exposed_at_ms", "campaign", "click", "cost"]
    for name in names:  # exposure_id is another hash
        require_equal(peer_values.sort(order)[name], exposures.sort(order)[name])


def test_steps_are_those_of_the_pipeline(exposures, chunk, computed):
    peer_values = peer.steps(exposures)
    assert exposures.select(ORDER[:2]).is_duplicated().sum() > 50
    names = [column.name for column in steps(DATASET).columns]
    assert {*names} - {*peer_values.columns} == {"seen_by_channel", "new_by_channel"}
    assert {*peer_values.columns} - {*names} == {"user_id", "ds", *BY_CHANNEL}
    for name in names:
        if name in peer_values.columns:
            require_equal(peer_values[name], pl.from_arrow(computed.column(name)))
    kinds, channels = ("exposures", "click", "conversion"), channel_names(chunk, DATASET)[1:]
    for period in ("seen", "new"):
        counts_WMA = dense_counts(computed.column(f"{period}_by_channel").combine_chunks(), kinds, channels)
        for name, counts_MA in zip(kinds, counts_WMA, strict=True):
            assert counts_MA.any()
            np.testing.assert_array_equal(peer_values[f"{period}_{name}_by_channel"].to_numpy(), counts_MA)


def test_windows_are_those_of_the_pipeline(exposures, chunk, computed):
    peer_values = peer.windows(peer.steps(exposures)).with_columns(pl.col("ds").cast(pl.String))
    days = sorted(peer_values["ds"].unique())
    position_N = to_ints(computed.column(JOURNEY_POSITION))
    own_values = pl.from_arrow(cut_windows(chunk, position_N, DATASET, DEFAULT_STEPS, days))
    order = ["user_id", "ds", "window"]
    assert own_values["window"].max() > 0
    names = [column.name for column in sequences(DATASET).columns]
    assert {*peer_values.columns} == {*names, "ds"}
    for name in {*names, "ds"} - {"split"}:  # by another hash
        require_equal(peer_values.sort(order)[name], own_values.sort(order)[name])


def test_parts_have_whole_users(exposures, monkeypatch):
    monkeypatch.setattr(peer, "ROWS_PER_PART", 500)
    parts = [*peer._parts(exposures)]
    assert 4 < len(parts) < 9
    assert sum(part["user_id"].n_unique() for part in parts) == exposures["user_id"].n_unique()
    assert pl.concat(parts).equals(exposures)


def test_a_run_writes_the_tables_by_day(log, exposures, tmp_path):
    figures = measure(module("benchmarks.fair_polars_peer", "--log", log, "--out", tmp_path / "out")).figures
    assert figures["exposures"] == figures["steps"] == len(exposures)
    for name, rows in figures.items():
        days = sorted(folder.name for folder in (tmp_path / "out" / name).iterdir())
        assert days == sorted({f"ds={day}" for day in exposures["ds"]})
        assert len(pl.read_parquet(tmp_path / "out" / name)) == rows
