"""From the raw log to sequences at several sizes, compared with two jobs of Polars and the loop of the notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.commands import DATASET, job, module, raw_to_sequences
from benchmarks.inputs.generated_log import (
    count_rows,
    generated_log,
    log_file,
    published_rows,
    scratch_lake,
    stored_bytes,
)
from benchmarks.measure import Cost, Spread, measure, measure_in_turn, ratio, total
from benchmarks.sections.section import Section, gib, seconds, times
from lakehouse.lake import Lake
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE, SEQUENCES
from schemas.tables.registry import TABLES_OF_STEPS

_MOST_PANDAS_ROWS = 4_000_000  # the loop would take hours on a larger log
_ONE_ROUND_ROWS = 8_000_000  # from this size on there is one round: it takes a quarter of an hour
_SEQUENCES, _JOURNEYS, _MINIMAL, _FAIR = "raw to sequences", "raw to journeys", "minimal Polars", "fair Polars"
# The tables that each job publishes.
_TABLES = {
    "build_exposures": (EXPOSURES, QUARANTINE),
    "build_sequences": TABLES_OF_STEPS,
    "build_journeys": (JOURNEYS,),
}
_PIPELINES = {_SEQUENCES: ("build_exposures", "build_sequences"), _JOURNEYS: ("build_exposures", "build_journeys")}
TEXT = """\
Each size is a generated log in the Criteo layout, one text file of 30 days with 20 rows per user. *Raw to sequences* is
the history run without its audits and without the fit of the feature spec: `build_tables`, whose start of Spark is
counted, on 2 cores with 4 GiB for the driver's heap. The rows *alone* show its two parts as separate jobs, each with a
start of Spark. *Raw to journeys* is `build_exposures` and
`build_journeys`. Two jobs of Polars, each in one process, are measured in the same rounds.

*Minimal Polars* parses all columns, groups the rows by user in order of time, keeps users with at least 10 exposures,
takes the last 20 exposures of each as arrays, splits by a hash of the user and writes Parquet: one row per user, as in
the table `journeys`. It does not refuse broken rows, search for duplicates, separate the days, or compute for each step
the values known before the step. It writes {minimal_windows} windows.

*Fair Polars* (`benchmarks/fair_polars_peer.py`) does the work of raw to sequences. It leaves out the rows that the
contract refuses, keeps one copy of each exposure, computes every column of `steps`, cuts the same windows by reference,
and writes `exposures`, `steps` and `sequences` by day. A test compares all columns with those of the pipeline. Three
differ in form: an exposure's id and a user's split are hashes of Polars, and the counts by channel are arrays with a
number for each channel, because with lists of the channels that have a count, as the pipeline stores them, Polars takes
fifteen times as long for the whole table. It does not read lines that are broken as text, keep the refused rows with
their reasons, count the gains of items (`item_history`), or fingerprint inputs and outputs, and it cannot continue from
an earlier day or use a second machine. It writes {fair_windows} windows, the pipeline {our_windows}: every exposure
after a user's first is a label once.

Runs alternate; a ratio compares the costs of one round, and the cell shows the median [smallest, largest] of the
rounds. The ratios after a cost are those of that cost. Processor time depends
less on other load of the machine. The pandas line is the per-user filter loop of the published notebooks, timed on
{timed} users and extrapolated to all; beyond 4 million rows it is left out. From 8 million rows on there is one round
and therefore no spread. The log is plain text, which several cores can share. One core reads the gzip file that Criteo
publishes, so unpack it first. Memory is the largest sum over all processes (a shared page counts once). *On disk* are
the bytes of the tables that a job writes, with their logs.

For exposures a task reads lines with Arrow, evaluates the contract in DuckDB and sends blocks of Arrow to the tasks of
the buckets, which sort and write; no row passes through Java. For sequences a task for each file of users reads their
exposures, counts their items, and writes their steps and windows. A window is a row of `sequences` that refers to
steps, so no value is stored twice. Repeated texts are codes on the whole way.

The limits for raw log to sequences are 5 times minimal Polars at 4 million rows and 3.5 times at 16 million, in time,
and the processor time of fair Polars. Measured: {reached}. The start of Spark and of its workers is part of each
job: about eight seconds of processor time."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """All costs at one size of the log.

    costs: by pipeline and peer, one per round. stages: the same by entry point. pandas: None beyond its largest size.
    windows: how many sequences were published. stored: bytes on disk, by pipeline, peer and entry point.
    """

    rows: int
    costs: dict[str, list[Cost]]
    stages: dict[str, list[Cost]]
    pandas: Cost | None
    windows: int
    stored: dict[str, int]


def measure_section(cache: Path, command: str, sizes: Sequence[int], repeats: int) -> Section:
    """sizes: in rows; see run.py for the others."""
    comparisons = [_compare(cache, size, repeats if size < _ONE_ROUND_ROWS else 1) for size in sizes]
    pandas_figures = [comparison.pandas.figures for comparison in comparisons if comparison.pandas]
    largest = comparisons[-1]
    text = TEXT.format(
        our_windows=f"{largest.windows:,}",
        minimal_windows=f"{int(largest.costs[_MINIMAL][0].figures['users']):,}",
        fair_windows=f"{int(largest.costs[_FAIR][0].figures[SEQUENCES]):,}",
        timed=pandas_figures[-1]["timed_users"] if pandas_figures else 0,
        reached=", ".join(_reached(comparison) for comparison in comparisons),
    )
    multiples = ("times minimal", "times fair")
    headings = ("rows", "what", "processor time", *multiples, "time", *multiples, "memory", "on disk", "repeats")
    rows = [row for comparison in comparisons for row in _table_rows(comparison)]
    return Section("Raw log to sequences", text, command, machine.description(), headings, rows, _curves(comparisons))


def _run_stages(lake: Lake, raw: Path) -> dict[str, Cost]:
    """The cost of the Spark jobs of single stages, by name."""
    return {
        "build_exposures": measure(job("build_exposures", lake, "--raw", raw)),
        "build_sequences": measure(job("build_sequences", lake)),
        "build_journeys": measure(job("build_journeys", lake)),
    }


def _stored_bytes(lake: Lake) -> dict[str, int]:
    """The bytes of the tables that each of these jobs has published, by name."""
    return {name: sum(stored_bytes(lake.table(table, DATASET)) for table in names) for name, names in _TABLES.items()}


def _compare(cache: Path, size: int, rounds: int) -> _Comparison:
    raw = generated_log(cache, size)
    log = log_file(raw)
    rows = count_rows(log)
    print(f"{rows:,} rows, {log.stat().st_size / 2**20:,.0f} MiB of text", flush=True)
    stages: dict[str, list[Cost]] = {name: [] for name in _TABLES}
    stored: dict[str, int] = {}
    windows = 0

    def run_pipeline() -> list[Cost]:
        nonlocal windows
        with scratch_lake(cache) as lake:
            cost = measure(raw_to_sequences(lake, raw))
        with scratch_lake(cache) as lake:
            stage_costs = _run_stages(lake, raw)
            stored.update(_stored_bytes(lake))
            windows = published_rows(lake, SEQUENCES)
        for name, stage_cost in stage_costs.items():
            stages[name].append(stage_cost)
        return [cost]

    def run_peer(name: str, program: str) -> list[Cost]:
        with scratch_lake(cache) as folder:
            costs = [measure(module(program, "--log", log, "--out", folder.root))]
            stored[name] = stored_bytes(folder.root)
            return costs

    peers = {_MINIMAL: "benchmarks.polars_peer", _FAIR: "benchmarks.fair_polars_peer"}
    runs = {name: partial(run_peer, name, program) for name, program in peers.items()}
    in_turn = measure_in_turn({_SEQUENCES: run_pipeline, **runs}, rounds)
    journeys = [total(costs) for costs in zip(*(stages[name] for name in _PIPELINES[_JOURNEYS]), strict=True)]
    costs = {_SEQUENCES: in_turn[_SEQUENCES], _JOURNEYS: journeys, **{name: in_turn[name] for name in peers}}
    stored |= {name: sum(stored[stage] for stage in stages) for name, stages in _PIPELINES.items()}
    pandas = _run_pandas(log) if size <= _MOST_PANDAS_ROWS else None
    return _Comparison(rows, costs, stages, pandas, windows, stored)


def _run_pandas(log: Path) -> Cost:
    cost = measure(module("benchmarks.pandas_peer", "--log", log))
    print(f"  pandas, extrapolated: {cost.figures['seconds']:,.0f} s", flush=True)
    return cost


def _reached(comparison: _Comparison) -> str:
    pipeline, minimal, fair = (comparison.costs[name] for name in (_SEQUENCES, _MINIMAL, _FAIR))
    multiple = ratio(_seconds(pipeline), _seconds(minimal))
    fair_multiple = ratio(_cpu_seconds(pipeline), _cpu_seconds(fair))
    return f"{multiple.median:.1f} and {fair_multiple.median:.1f} times at {comparison.rows:,} rows"


def _table_rows(comparison: _Comparison) -> list[list[str]]:
    rows = [
        _table_row(comparison, label, costs, comparison.stored[name])
        for label, name, costs in (
            *((name, name, costs) for name, costs in comparison.costs.items()),
            *((f"`{name}` alone", name, costs) for name, costs in comparison.stages.items()),
        )
    ]
    if comparison.pandas:
        pandas_s = comparison.pandas.figures["seconds"]
        # The loop is timed once: the spread of the ratios would be that of Polars.
        multiples = [
            f"{ratio([pandas_s] * len(peer), _seconds(peer)).median:.2f}"
            for peer in (comparison.costs[_MINIMAL], comparison.costs[_FAIR])
        ]
        rows.append([
            f"{comparison.rows:,}", "pandas loop, extrapolated", "", "", "", f"{pandas_s:,.0f} s", *multiples,
            gib(comparison.pandas.peak_bytes), "", "1",
        ])  # fmt: skip
    return rows


def _table_row(comparison: _Comparison, name: str, costs: Sequence[Cost], stored: int) -> list[str]:
    cells = []
    for figure in (_cpu_seconds, _seconds):
        cells.append(seconds(Spread.summarise(figure(costs))))
        cells += [times(ratio(figure(costs), figure(comparison.costs[peer]))) for peer in (_MINIMAL, _FAIR)]
    peak_bytes = max(cost.peak_bytes for cost in costs)
    return [f"{comparison.rows:,}", name, *cells, gib(peak_bytes), gib(stored), str(len(costs))]


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
        for name in (_SEQUENCES, _JOURNEYS, _MINIMAL, _FAIR)
    }


def _seconds(costs: Sequence[Cost]) -> list[float]:
    return [cost.seconds for cost in costs]


def _cpu_seconds(costs: Sequence[Cost]) -> list[float]:
    return [cost.cpu_s for cost in costs]
