"""Raw log to sequences by Polars on one machine: python -m benchmarks.fair_polars_peer --log FILE --out FOLDER

Reads a log in the Criteo layout, leaves out broken rows, keeps one copy of each exposure, computes the inputs of
each exposure, cuts windows by reference, and writes the tables `exposures`, `steps` and `sequences` by day, with
the columns of schemas/tables/.

Rows are sorted by user and time, so everything known before a step is a difference of running totals of a whole
column: no expression groups by user. Steps are computed for the users of about a million rows at a time.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from schemas.datasets.criteo import LOG, LONGEST_DAYS, START
from schemas.splits import TEST, TRAIN, VALIDATION
from schemas.steps import DEFAULT_STEPS, UNKNOWN_CHANNEL
from schemas.tables import EXPOSURES, SEQUENCES, STEPS

ROWS_PER_PART = 1_000_000
_TYPES = {"bigint": pl.Int64, "double": pl.Float64, "string": pl.String}
_START_S, _LONGEST_S = int(START.timestamp()), LONGEST_DAYS * 86_400
_CATEGORIES = tuple(f"cat{k}" for k in range(1, 10))
_KEY = ("uid", "timestamp", "campaign", "click", "cost", "cpo", *_CATEGORIES)
_IDENTITY = ("user_id", "exposed_at_ms", "exposure_id")
_CATEGORICAL, _NUMERIC = ("channel", "campaign", *_CATEGORIES), ("cost", "cpo")
_COUNTS = ("exposures", "click", "conversion")
_USER, _AT_MS, _ROW = pl.col("user_id"), pl.col("exposed_at_ms"), pl.col("row")
_IS_FIRST, _IS_FIRST_OF_TIME, _IS_FIRST_OF_DAY = map(pl.col, ("is_first", "is_first_of_time", "is_first_of_day"))
_NO_TIME = -1


def exposures(log: Path) -> pl.DataFrame:
    """The table `exposures` and ds, by user, time and id.

    One copy of each exposure is kept, if possible with a conversion.
    """
    second, conversion, conversion_second = map(pl.col, ("timestamp", "conversion", "conversion_timestamp"))
    types = {column.name: _TYPES[column.dtype]() for column in LOG.columns}
    is_usable = (
        second.is_between(0, _LONGEST_S)
        & pl.col("click").is_in([0, 1])
        & conversion.is_in([0, 1])
        & pl.col("attribution").is_in([-1, 0, 1])
        & ((conversion == 0) | conversion_second.is_between(second, 2 * _LONGEST_S))
        & pl.col("uid").is_not_null()
        & pl.col("cost").is_not_null()
    )
    at_ms, conversion_at_ms = (_START_S + second) * 1000, (_START_S + conversion_second) * 1000
    time = pl.from_epoch(at_ms, "ms")
    columns = {
        "user_id": pl.col("uid"),
        "exposure_id": pl.struct(_KEY).hash().reinterpret(signed=True),
        "exposed_at_ms": at_ms,
        "channel": pl.col("cat8").cast(pl.String),
        "cost": pl.col("cost"),
        "propensity": pl.lit(None, pl.Float64),
        "click": pl.col("click").cast(pl.Int32),
        "conversion": conversion.cast(pl.Int32),
        "conversion_at_ms": pl.when(conversion == 1).then(conversion_at_ms),
        **{name: _null_if(-1, pl.col(name)) for name in ("conversion_id", "attribution", "click_pos", "click_nb")},
        "cpo": pl.col("cpo"),
        **{name: pl.col(name).cast(pl.String) for name in ("campaign", *_CATEGORIES)},
        "time_since_last_click_s": _null_if(-1, pl.col("time_since_last_click")).cast(pl.Float64),
        "hour": time.dt.hour().cast(pl.Int32),
        "weekday": time.dt.weekday().cast(pl.Int32) - 1,
        "ds": time.dt.date(),
    }
    is_new = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in _IDENTITY)
    return (
        pl.scan_csv(log, separator=LOG.separator, schema=types)
        .filter(is_usable)
        .select(**columns)
        .sort(*_IDENTITY, "conversion", descending=[False, False, False, True])
        .filter(is_new)
        .collect()
    )


def steps(exposures: pl.DataFrame) -> pl.DataFrame:
    """The table `steps`, user_id and ds, a row for each exposure. exposures: of whole users, by user, time and id."""
    channel = pl.col("channel").fill_null(UNKNOWN_CHANNEL)
    channels = exposures.select(channel.unique().sort()).to_series().to_list()
    is_new_user = _USER.ne_missing(_USER.shift())
    places = {
        "row": pl.int_range(pl.len(), dtype=pl.Int32),
        "is_first": is_new_user,
        "is_first_of_time": is_new_user | (_AT_MS.shift() != _AT_MS),
        "is_first_of_day": is_new_user | (pl.col("ds") != pl.col("ds").shift()),
        "exposures": pl.lit(1, pl.Int32),
        "clicked_at_ms": pl.when(pl.col("click") == 1).then(_AT_MS).when(is_new_user).then(_NO_TIME).forward_fill(),
    }
    # The row of the latest exposure that a step sees: the one before all with the step's own time.
    latest = _value_at(_IS_FIRST_OF_TIME, pl.when(_IS_FIRST).then(_NO_TIME).otherwise(_ROW - 1))
    seen = {
        "journey_position": _ROW - _value_at(_IS_FIRST, _ROW),
        **{f"last_{name}": pl.col(name).gather(pl.col("latest")) for name in (*_CATEGORICAL, *_NUMERIC)},
        **{f"mean_{name}": _mean(pl.col(name)) for name in _NUMERIC},
        **{f"switches_{name}": _total((pl.col(name).ne_missing(pl.col(name).shift()) & ~_IS_FIRST).cast(pl.Int32))
           for name in _CATEGORICAL},
        "gap_s": pl.when(_IS_FIRST).then(0.0).otherwise((_AT_MS - _AT_MS.shift()) / 1000),
        "since_click_s": (_AT_MS - _null_if(_NO_TIME, pl.col("clicked_at_ms").gather(pl.col("latest")))) / 1000,
        "seen_cost_nano": _total((pl.col("cost") * 1e9).round().cast(pl.Int64)),
        **{f"seen_{name}": _total(pl.col(name)) for name in ("exposures", "click")},
        **{f"seen_{name}_{k}": _total((channel == value).cast(pl.Int32) * pl.col(name))
           for k, value in enumerate(channels) for name in ("exposures", "click")},
    }  # fmt: skip
    counts = [f"seen_{name}{end}" for end in ("", *(f"_{k}" for k in range(len(channels)))) for name in _COUNTS]
    added = {name.replace("seen", "new"): _since_previous(pl.col(name)) for name in (*counts, "seen_cost_nano")}
    session_age_s = (_AT_MS - _value_at(_IS_FIRST_OF_DAY, _AT_MS)) / 1000
    derived = {
        "new_cost": pl.col("new_cost_nano") / 1e9,
        **{f"{period}_{name}_by_channel": pl.concat_arr([f"{period}_{name}_{k}" for k in range(len(channels))])
           for period in ("seen", "new") for name in _COUNTS},
        "session_id": _value_at(_IS_FIRST_OF_DAY, pl.col("exposure_id")),
        "position": _ROW - _value_at(_IS_FIRST_OF_DAY, _ROW),
        "session_age_s": session_age_s,
        **{f"session_{name}": pl.col(f"seen_{name}") - _value_at(_IS_FIRST_OF_DAY, pl.col(f"seen_{name}"))
           for name in _COUNTS},
        "since_conversion_s": (_AT_MS - pl.col("conversion_known_at_ms")) / 1000,
    }  # fmt: skip
    rows = exposures.lazy().with_columns(**places).with_columns(latest=_null_if(_NO_TIME, latest)).with_columns(**seen)
    rows = rows.join_asof(
        _conversions(exposures.lazy(), channels), left_on="exposed_at_ms", right_on="conversion_known_at_ms",
        by="user_id", allow_exact_matches=False, check_sortedness=False, coalesce=False,
    )  # fmt: skip
    conversions = [name for name in counts if "conversion" in name]
    rows = rows.with_columns(pl.col(conversions).fill_null(0)).with_columns(**added).with_columns(**derived)
    columns = ["user_id", "ds", "exposure_id", "journey_position", "gap_s"]
    columns += [f"last_{name}" for name in (*_CATEGORICAL, *_NUMERIC)]
    columns += [f"mean_{name}" for name in _NUMERIC] + [f"switches_{name}" for name in _CATEGORICAL]
    columns += ["since_click_s", "since_conversion_s", "new_cost"]
    columns += [f"{period}_{name}_by_channel" for period in ("seen", "new") for name in _COUNTS]
    columns += [f"{period}_{name}" for period in ("seen", "new", "session") for name in _COUNTS]
    return rows.select(*columns, "session_id", "position", "session_age_s").collect()


def windows(steps: pl.DataFrame, n: int = DEFAULT_STEPS) -> pl.DataFrame:
    """The table `sequences` and ds: windows of n steps that label every step but each user's first, as window_cuts."""
    context = (n + 1) // 2
    first_label, stop, number = pl.col("first_label"), pl.col("stop"), pl.col("window")
    full_stop = first_label + n - pl.min_horizontal(first_label, context)  # of a day's first window
    # Rounded up.
    further_windows = ((stop - full_stop + n - context - 1) // (n - context)).clip(0)
    window_stop = pl.min_horizontal(full_stop + number * (n - context), stop)
    bucket = _USER.hash(seed=1) % 10
    split = pl.when(bucket < 8).then(pl.lit(TRAIN)).when(bucket == 8).then(pl.lit(VALIDATION)).otherwise(pl.lit(TEST))
    return (
        steps.lazy()
        .group_by("user_id", "ds", maintain_order=True)
        .agg(
            pl.col("journey_position").first().clip(1).alias("first_label"),
            (pl.col("journey_position").last() + 1).alias("stop"),
        )
        .filter(stop > first_label)
        .with_columns(window=pl.int_ranges(0, further_windows + 1, dtype=pl.Int32))
        .explode("window")
        .with_columns(
            window_stop=window_stop,
            first_label=pl.when(number == 0).then(first_label).otherwise(full_stop + (number - 1) * (n - context)),
            split=split,
        )
        .with_columns(first_step=(pl.col("window_stop") - n).clip(0), last_step=pl.col("window_stop") - 1)
        .select(
            "user_id", "ds", "window", "split", pl.lit(n, pl.Int32).alias("length"),
            (n - 1 - pl.col("last_step") + pl.col("first_step")).alias("padding"),
            "first_step", "first_label", "last_step",
        )
        .collect()
    )  # fmt: skip


def _parts(exposures: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows in parts of about ROWS_PER_PART, whole users each."""
    is_new_user = _USER.ne_missing(_USER.shift())
    starts = exposures.select(pl.arg_where(is_new_user)).to_series()
    starts = starts.filter((starts // ROWS_PER_PART).diff().fill_null(1) > 0).to_list()
    for start, stop in zip(starts, [*starts[1:], len(exposures)], strict=True):
        yield exposures.slice(start, stop - start)


def _value_at(mask: pl.Expr, value: pl.Expr) -> pl.Expr:
    """The value of the latest row that the mask selects."""
    return pl.when(mask).then(value).forward_fill()


def _total(value: pl.Expr) -> pl.Expr:
    """The sum over the user's exposures with a smaller time."""
    earlier_sum = value.cum_sum() - value
    return _value_at(_IS_FIRST_OF_TIME, earlier_sum) - _value_at(_IS_FIRST, earlier_sum)


def _mean(value: pl.Expr) -> pl.Expr:
    """The mean over these exposures, in millionths: whole numbers, whose totals are exact. Null without a number."""
    total_micro = _total((value.fill_null(0.0) * 1e6).round().cast(pl.Int64))
    numbers = _total(value.is_not_null().cast(pl.Int32))
    return total_micro / 1e6 / _null_if(0, numbers)


def _since_previous(total: pl.Expr) -> pl.Expr:
    """How much a total has grown since the user's previous step."""
    return total - pl.when(_IS_FIRST).then(0).otherwise(total.shift())


def _conversions(exposures: pl.LazyFrame, channels: Sequence[str]) -> pl.LazyFrame:
    """A row for each conversion, by user and the time at which it becomes known: the user's conversions up to it."""
    channel = pl.col("channel").fill_null(UNKNOWN_CHANNEL)
    known = {
        "seen_conversion": pl.col("conversion").cum_sum(),
        **{f"seen_conversion_{k}": (channel == value).cast(pl.Int32).cum_sum() for k, value in enumerate(channels)},
    }
    return (
        exposures.filter(pl.col("conversion") == 1)
        .sort("user_id", "conversion_at_ms")
        .select(
            "user_id", conversion_known_at_ms="conversion_at_ms", **{k: v.over("user_id") for k, v in known.items()}
        )
    )


def _null_if(value: int, column: pl.Expr) -> pl.Expr:
    """The column with null in the place of a value."""
    return pl.when(column != value).then(column)


def _write(rows: pl.DataFrame, folder: Path, part: int) -> None:
    """Write a file for each day."""
    for (day,), rows_of_day in rows.partition_by("ds", as_dict=True, include_key=False).items():
        file = folder / f"ds={day}" / f"part-{part}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows_of_day.write_parquet(file, compression="zstd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    counts: Counter[str] = Counter()
    for number, part in enumerate(_parts(exposures(args.log))):
        part_steps = steps(part)
        tables = {EXPOSURES: part, STEPS: part_steps.drop("user_id"), SEQUENCES: windows(part_steps)}
        for name, rows in tables.items():
            _write(rows, args.out / name, number)
            counts[name] += len(rows)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
