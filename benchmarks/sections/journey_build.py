"""From the raw log to sequences at several sizes, compared with Polars and the loop of the published notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.commands import job, module
from benchmarks.inputs.generated_log import (
    count_rows,
    fitted_spec,
    generated_log,
    log_file,
    published_rows,
    scratch_lake,
)
from benchmarks.measure import Cost, Spread, measure, measure_in_turn, ratio, total
from benchmarks.sections.section import Section, gib, seconds, times
from lakehouse.lake import Lake
from schemas.tables import SEQUENCES

_MOST_PANDAS_ROWS = 4_000_000  # the loop would take hours on a larger log
_ONE_ROUND_ROWS = 8_000_000  # from this size on there is one round: it takes a quarter of an hour
_SEQUENCES, _JOURNEYS, _POLARS = "raw to sequences", "raw to journeys", "Polars"
TEXT = """\
Each size is a generated log in the Criteo layout, one text file of 30 days with 20 rows per user. *Raw to sequences* is
the history run without its audits and without the fit of the feature spec: `build_exposures` and `build_sequences`,
each in a separate Spark session whose start is counted, on 2 cores with 4 GiB for the driver's heap. *Raw to journeys*
is `build_exposures` and `build_journeys`. The output of Polars resembles the table `journeys`: one row per user. Polars
parses all columns, groups the rows by user in order of time, keeps users with at least 10 exposures, takes the last 20
exposures of each as arrays, splits by a hash of the user and writes Parquet. It does not refuse broken rows, search
for duplicates, separate the days, fingerprint its inputs and outputs, or compute for each step the values known before
the step. It writes {polars_windows} windows. The pipeline writes {our_windows}, with counts by channel in each step:
every exposure after a user's first is a label once. Runs alternate; a ratio compares the costs of one round, and the
cell shows the median [smallest, largest] of the rounds. The pandas line is the per-user filter loop of the published
notebooks, timed on {timed} users and extrapolated to all; its ratio is to Polars as well, and beyond 4 million rows it
is left out. From 8 million rows on there is one round and therefore no spread. The log is plain text, which several
cores can share. One core reads the gzip file that Criteo publishes, so unpack it first. Memory is the largest sum over
all processes (a shared page counts once).

Several things explain the distance, besides the work that Polars leaves out. An exposure is part of several windows (of
one as a label, of later ones as context) and each step has dozens of inputs, so `sequences` have many times the values
that Polars writes. A profile by hand (4 million rows, two AMD EPYC cores, November 2026) splits the processor time of
`build_sequences` into two fifths for writing them, a fifth for computing them, and nearly a third for Spark: reading
rows, sorting them by user and passing them to Python. In `build_exposures` more than a quarter goes to the transfer of
rows between Java and Python, in both directions for parsing and once more for writing; an eighth to the expressions of
the contract and to the hashes of all values, which identify a corrected row; a seventh to shuffle and sort; a tenth to
caching rows that are read twice; a tenth to writing.

The limits for raw log to sequences are 5 times Polars at 4 million rows and 4 times at 16 million. Measured: {reached}.
These changes helped, with their effect if it was measured separately. The log is parsed once per session, and its plain
lines are parsed by Arrow in the workers, thousands at a time (from 1.7 to 1.0 s of processor time per million rows).
The workers that write the rows also find copies of an exposure, so rows are sorted once and stay outside Java. Nested
tables are written by pyarrow in the process that computed them (Java's Parquet writer took several times as long);
their windows are cut in order of day, which avoids copies, and numbers have no dictionaries and lists no statistics
(writing: from 24 to 10 s per million rows). Long plans are compiled in pieces, and short-lived caches are not
compressed (a sixth of the processor time of `build_exposures`). These were tried without gain: Java's parallel garbage
collector, an earlier start of its optimising compiler, smaller batches in the caches, other batch sizes in the workers,
Arrow without bounds checks, a lighter compression of the sequences (compression is a fifth of writing them; the rest is
the flattening of lists). One idea is not implemented: exposures are stored sorted in files by user, so workers could
read them without Spark. This would save Spark's third of `build_sequences`, but it needs a second way to bring the rows
of a user together."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """All costs at one size of the log.

    costs: by pipeline and peer, one per round. stages: the same by entry point. pandas: None beyond its largest size.
    windows: how many sequences were published.
    """

    rows: int
    costs: dict[str, list[Cost]]
    stages: dict[str, list[Cost]]
    pandas: Cost | None
    windows: int


def measure_section(cache: Path, command: str, sizes: Sequence[int], repeats: int) -> Section:
    """sizes: in rows; see run.py for the others."""
    spec = fitted_spec(cache)
    comparisons = [_compare(cache, spec, size, repeats if size < _ONE_ROUND_ROWS else 1) for size in sizes]
    pandas_figures = [comparison.pandas.figures for comparison in comparisons if comparison.pandas]
    largest = comparisons[-1]
    text = TEXT.format(
        our_windows=f"{largest.windows:,}",
        polars_windows=f"{int(largest.costs[_POLARS][0].figures['users']):,}",
        timed=pandas_figures[-1]["timed_users"] if pandas_figures else 0,
        reached=", ".join(_reached(comparison) for comparison in comparisons),
    )
    headings = ("rows", "what", "time", "processor time", "times Polars", "memory", "repeats")
    rows = [row for comparison in comparisons for row in _table_rows(comparison)]
    return Section("Raw log to sequences", text, command, machine.description(), headings, rows, _curves(comparisons))


def _run_stages(lake: Lake, raw: Path, spec: Path) -> dict[str, Cost]:
    """The cost of the Spark jobs of the history run, by name."""
    return {
        "build_exposures": measure(job("build_exposures", lake, "--raw", raw)),
        "build_sequences": measure(job("build_sequences", lake, "--spec", spec)),
        "build_journeys": measure(job("build_journeys", lake)),
    }


def _compare(cache: Path, spec: Path, size: int, rounds: int) -> _Comparison:
    raw = generated_log(cache, size)
    log = log_file(raw)
    rows = count_rows(log)
    print(f"{rows:,} rows, {log.stat().st_size / 2**20:,.0f} MiB of text", flush=True)
    stages: dict[str, list[Cost]] = {"build_exposures": [], "build_sequences": [], "build_journeys": []}
    windows = 0

    def run_pipeline() -> list[Cost]:
        nonlocal windows
        with scratch_lake(cache) as lake:
            stage_costs = _run_stages(lake, raw, spec)
            windows = published_rows(lake, SEQUENCES)
        for name, cost in stage_costs.items():
            stages[name].append(cost)
        return [stage_costs["build_exposures"], stage_costs["build_sequences"]]

    def run_polars() -> list[Cost]:
        with scratch_lake(cache) as folder:
            return [measure(module("benchmarks.polars_peer", "--log", log, "--out", folder.root))]

    in_turn = measure_in_turn({_SEQUENCES: run_pipeline, _POLARS: run_polars}, rounds)
    journeys = [total(pair) for pair in zip(stages["build_exposures"], stages["build_journeys"], strict=True)]
    costs = {_SEQUENCES: in_turn[_SEQUENCES], _JOURNEYS: journeys, _POLARS: in_turn[_POLARS]}
    return _Comparison(rows, costs, stages, _run_pandas(log) if size <= _MOST_PANDAS_ROWS else None, windows)


def _run_pandas(log: Path) -> Cost:
    cost = measure(module("benchmarks.pandas_peer", "--log", log))
    print(f"  pandas, extrapolated: {cost.figures['seconds']:,.0f} s", flush=True)
    return cost


def _reached(comparison: _Comparison) -> str:
    multiple = ratio(_seconds(comparison.costs[_SEQUENCES]), _seconds(comparison.costs[_POLARS]))
    return f"{multiple.median:.0f} x at {comparison.rows:,} rows"


def _table_rows(comparison: _Comparison) -> list[list[str]]:
    polars_s = _seconds(comparison.costs[_POLARS])
    lines = {**comparison.costs, **{f"of that `{name}`": costs for name, costs in comparison.stages.items()}}
    rows = [_table_row(comparison.rows, name, costs, polars_s) for name, costs in lines.items()]
    if comparison.pandas:
        pandas_s = comparison.pandas.figures["seconds"]
        # The loop is timed once: the spread of the ratios would be that of Polars.
        multiple = ratio([pandas_s] * len(polars_s), polars_s).median
        rows.append([
            f"{comparison.rows:,}", "pandas loop, extrapolated", f"{pandas_s:,.0f} s", "", f"{multiple:.2f}",
            gib(comparison.pandas.peak_bytes), "1",
        ])  # fmt: skip
    return rows


def _table_row(rows: int, name: str, costs: Sequence[Cost], polars_s: Sequence[float]) -> list[str]:
    return [
        f"{rows:,}",
        name,
        seconds(Spread.summarise(_seconds(costs))),
        seconds(Spread.summarise([cost.cpu_s for cost in costs])),
        "1" if name == _POLARS else times(ratio(_seconds(costs), polars_s)),
        gib(max(cost.peak_bytes for cost in costs)),
        str(len(costs)),
    ]


def _curves(comparisons: Sequence[_Comparison]) -> dict[str, list[list[float]]]:
    """By label, points of (rows, seconds, bytes)."""
    return {
        name: [
            [
                comparison.rows,
                Spread.summarise(_seconds(comparison.costs[name])).median,
                max(cost.peak_bytes for cost in comparison.costs[name]),
            ]
            for comparison in comparisons
        ]
        for name in (_SEQUENCES, _JOURNEYS, _POLARS)
    }


def _seconds(costs: Sequence[Cost]) -> list[float]:
    return [cost.seconds for cost in costs]
