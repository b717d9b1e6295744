"""From the raw log to sequences at several sizes, compared with Polars and the loop of the published notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.commands import DATASET, job, module
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
_SEQUENCES, _JOURNEYS, _POLARS = "raw to sequences", "raw to journeys", "Polars"
TEXT = """\
Each size is a generated log in the Criteo layout, one text file of 30 days with 20 rows per user. *Raw to sequences* is
the history run without its audits and without the fit of the feature spec: `build_tables`, whose start of Spark is
counted, on 2 cores with 4 GiB for the driver's heap. *Raw to journeys* is `build_exposures` and `build_journeys`, each
of which starts Spark. The output of Polars resembles the table `journeys`: one row per user. Polars
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

Several things explain the distance, besides the work that Polars leaves out. For each exposure the table `steps` has
the dozens of inputs that a model may read, which are known before it, where Polars copies the columns of the log. A
window is a row of `sequences` that refers to steps, so no value is stored twice; `item_history`, the gains of each item
so far, is built as well. For exposures a task reads lines with Arrow, evaluates the contract in DuckDB and sends
blocks of Arrow to the tasks of the buckets, which sort and write; no row passes through Java. For sequences a task for
each file of users reads their exposures, counts their items, and writes their steps and windows. Repeated texts are
codes on the whole way. *On disk* are the bytes of the tables that a job publishes, with their logs.

The limits for raw log to sequences are 5 times Polars at 4 million rows and 3.5 times at 16 million. Measured:
{reached}. The start of Spark and of its workers is part of each job: about eight seconds of processor time."""


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
        polars_windows=f"{int(largest.costs[_POLARS][0].figures['users']):,}",
        timed=pandas_figures[-1]["timed_users"] if pandas_figures else 0,
        reached=", ".join(_reached(comparison) for comparison in comparisons),
    )
    headings = ("rows", "what", "time", "processor time", "times Polars", "memory", "on disk", "repeats")
    rows = [row for comparison in comparisons for row in _table_rows(comparison)]
    return Section("Raw log to sequences", text, command, machine.description(), headings, rows, _curves(comparisons))


def _run_stages(lake: Lake, raw: Path) -> dict[str, Cost]:
    """The cost of the Spark jobs that build one stage each, by name."""
    return {
        "build_exposures": measure(job("build_exposures", lake, "--raw", raw)),
        "build_sequences": measure(job("build_sequences", lake)),
        "build_journeys": measure(job("build_journeys", lake)),
    }


def _stored_bytes(lake: Lake) -> dict[str, int]:
    """The bytes of the tables that each of these jobs has published, by name."""
    tables = {
        "build_exposures": (EXPOSURES, QUARANTINE),
        "build_sequences": TABLES_OF_STEPS,
        "build_journeys": (JOURNEYS,),
    }
    return {name: sum(stored_bytes(lake.table(table, DATASET)) for table in names) for name, names in tables.items()}


def _compare(cache: Path, size: int, rounds: int) -> _Comparison:
    raw = generated_log(cache, size)
    log = log_file(raw)
    rows = count_rows(log)
    print(f"{rows:,} rows, {log.stat().st_size / 2**20:,.0f} MiB of text", flush=True)
    stages: dict[str, list[Cost]] = {"build_exposures": [], "build_sequences": [], "build_journeys": []}
    stored: dict[str, int] = {}
    windows = 0

    def run_pipeline() -> list[Cost]:
        nonlocal windows
        with scratch_lake(cache) as lake:
            cost = measure(job("build_tables", lake, "--raw", raw))
            windows = published_rows(lake, SEQUENCES)
        with scratch_lake(cache) as lake:
            stage_costs = _run_stages(lake, raw)
            stored.update(_stored_bytes(lake))
        for name, stage_cost in stage_costs.items():
            stages[name].append(stage_cost)
        return [cost]

    def run_polars() -> list[Cost]:
        with scratch_lake(cache) as folder:
            costs = [measure(module("benchmarks.polars_peer", "--log", log, "--out", folder.root))]
            stored[_POLARS] = stored_bytes(folder.root)
            return costs

    in_turn = measure_in_turn({_SEQUENCES: run_pipeline, _POLARS: run_polars}, rounds)
    journeys = [total(pair) for pair in zip(stages["build_exposures"], stages["build_journeys"], strict=True)]
    costs = {_SEQUENCES: in_turn[_SEQUENCES], _JOURNEYS: journeys, _POLARS: in_turn[_POLARS]}
    stored |= {
        name: stored["build_exposures"] + stored[stage]
        for name, stage in ((_SEQUENCES, "build_sequences"), (_JOURNEYS, "build_journeys"))
    }
    pandas = _run_pandas(log) if size <= _MOST_PANDAS_ROWS else None
    return _Comparison(rows, costs, stages, pandas, windows, stored)


def _run_pandas(log: Path) -> Cost:
    cost = measure(module("benchmarks.pandas_peer", "--log", log))
    print(f"  pandas, extrapolated: {cost.figures['seconds']:,.0f} s", flush=True)
    return cost


def _reached(comparison: _Comparison) -> str:
    multiple = ratio(_seconds(comparison.costs[_SEQUENCES]), _seconds(comparison.costs[_POLARS]))
    return f"{multiple.median:.0f} x at {comparison.rows:,} rows"


def _table_rows(comparison: _Comparison) -> list[list[str]]:
    polars_s = _seconds(comparison.costs[_POLARS])
    rows = [
        _table_row(comparison, label, costs, polars_s, comparison.stored[name])
        for label, name, costs in (
            *((name, name, costs) for name, costs in comparison.costs.items()),
            *((f"`{name}` alone", name, costs) for name, costs in comparison.stages.items()),
        )
    ]
    if comparison.pandas:
        pandas_s = comparison.pandas.figures["seconds"]
        # The loop is timed once: the spread of the ratios would be that of Polars.
        multiple = ratio([pandas_s] * len(polars_s), polars_s).median
        rows.append([
            f"{comparison.rows:,}", "pandas loop, extrapolated", f"{pandas_s:,.0f} s", "", f"{multiple:.2f}",
            gib(comparison.pandas.peak_bytes), "", "1",
        ])  # fmt: skip
    return rows


def _table_row(
    comparison: _Comparison, name: str, costs: Sequence[Cost], polars_s: Sequence[float], stored: int
) -> list[str]:
    return [
        f"{comparison.rows:,}",
        name,
        seconds(Spread.summarise(_seconds(costs))),
        seconds(Spread.summarise([cost.cpu_s for cost in costs])),
        "1" if name == _POLARS else times(ratio(_seconds(costs), polars_s)),
        gib(max(cost.peak_bytes for cost in costs)),
        gib(stored),
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
